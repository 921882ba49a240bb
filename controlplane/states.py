"""The states of a sandbox and the moves between them."""

from enum import StrEnum

from toolbox.errors import Conflict


class State(StrEnum):
    """Where a sandbox stands (a subset of the contract's states)."""

    PENDING_BUILD = "pending_build"
    BUILDING_SNAPSHOT = "building_snapshot"
    BUILD_FAILED = "build_failed"
    PULLING_SNAPSHOT = "pulling_snapshot"
    CREATING = "creating"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    STARTING = "starting"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    RESIZING = "resizing"
    SNAPSHOTTING = "snapshotting"
    FORKING = "forking"
    ARCHIVING = "archiving"
    ARCHIVED = "archived"
    RESTORING = "restoring"
    ERROR = "error"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class Desired(StrEnum):
    """Where its owner wants it."""

    STARTED = "started"
    STOPPED = "stopped"
    PAUSED = "paused"
    ARCHIVED = "archived"
    DESTROYED = "destroyed"


_GONE = frozenset({State.ERROR, State.DESTROYING})
"""What can happen to a sandbox in any state that lasts or works."""

MOVES: dict[State, frozenset[State]] = {
    State.PENDING_BUILD: _GONE | {State.BUILDING_SNAPSHOT, State.BUILD_FAILED},
    State.BUILDING_SNAPSHOT: _GONE | {State.BUILD_FAILED, State.CREATING},
    State.BUILD_FAILED: frozenset({State.DESTROYING}),
    State.PULLING_SNAPSHOT: _GONE | {State.CREATING},
    State.CREATING: _GONE | {State.STARTED, State.STOPPED},
    State.STARTED: _GONE
    | {State.STOPPING, State.STOPPED, State.PAUSING, State.RESIZING, State.SNAPSHOTTING, State.FORKING},
    State.STOPPING: _GONE | {State.STOPPED},
    State.STOPPED: _GONE | {State.STARTING, State.RESIZING, State.SNAPSHOTTING, State.FORKING, State.ARCHIVING},
    State.STARTING: _GONE | {State.STARTED, State.STOPPED},
    State.PAUSING: _GONE | {State.PAUSED, State.STARTED, State.STOPPED},
    State.PAUSED: _GONE | {State.RESUMING, State.STOPPING, State.STOPPED},
    State.RESUMING: _GONE | {State.STARTED, State.PAUSED, State.STOPPED},
    State.RESIZING: _GONE | {State.STARTED, State.STOPPED},
    State.SNAPSHOTTING: _GONE | {State.STARTED, State.STOPPED},
    State.FORKING: _GONE | {State.STARTED, State.STOPPED},
    State.ARCHIVING: _GONE | {State.ARCHIVED, State.STOPPED},
    State.ARCHIVED: _GONE | {State.RESTORING},
    State.RESTORING: _GONE | {State.STARTED, State.STOPPED, State.ARCHIVED},
    State.ERROR: frozenset({State.STARTING, State.STOPPING, State.STOPPED, State.RESTORING, State.DESTROYING}),
    State.DESTROYING: frozenset({State.DESTROYED}),
    State.DESTROYED: frozenset(),
}

DESIRED: dict[State, Desired] = {
    State.PENDING_BUILD: Desired.STARTED,
    State.BUILDING_SNAPSHOT: Desired.STARTED,
    State.PULLING_SNAPSHOT: Desired.STARTED,
    State.CREATING: Desired.STARTED,
    State.STARTING: Desired.STARTED,
    State.STARTED: Desired.STARTED,
    State.RESUMING: Desired.STARTED,
    State.RESTORING: Desired.STARTED,
    State.STOPPING: Desired.STOPPED,
    State.STOPPED: Desired.STOPPED,
    State.PAUSING: Desired.PAUSED,
    State.PAUSED: Desired.PAUSED,
    State.ARCHIVING: Desired.ARCHIVED,
    State.ARCHIVED: Desired.ARCHIVED,
    State.DESTROYING: Desired.DESTROYED,
    State.DESTROYED: Desired.DESTROYED,
}
"""What a state says about the owner's wish; of an error, and of work that ends where it began, the wish stays."""


def check_move(name: str, source: State, target: State) -> None:
    """Raise `Conflict` when a sandbox cannot go from `source` to `target`."""
    if target not in MOVES[source]:
        raise Conflict(f"sandbox {name} is {source}: it cannot become {target}")
