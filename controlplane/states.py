"""The states of a sandbox and the moves between them."""

from enum import StrEnum

from toolbox.errors import Conflict


class State(StrEnum):
    """Where a sandbox stands (a subset of the contract's states)."""

    CREATING = "creating"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    STARTING = "starting"
    ERROR = "error"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class Desired(StrEnum):
    """Where its owner wants it."""

    STARTED = "started"
    STOPPED = "stopped"
    DESTROYED = "destroyed"


MOVES: dict[State, frozenset[State]] = {
    State.CREATING: frozenset({State.STARTED, State.ERROR, State.DESTROYING}),
    State.STARTED: frozenset({State.STOPPING, State.STOPPED, State.ERROR, State.DESTROYING}),
    State.STOPPING: frozenset({State.STOPPED, State.ERROR, State.DESTROYING}),
    State.STOPPED: frozenset({State.STARTING, State.DESTROYING}),
    State.STARTING: frozenset({State.STARTED, State.STOPPED, State.ERROR, State.DESTROYING}),
    State.ERROR: frozenset({State.STARTING, State.STOPPING, State.DESTROYING}),
    State.DESTROYING: frozenset({State.DESTROYED}),
    State.DESTROYED: frozenset(),
}

DESIRED: dict[State, Desired] = {
    State.CREATING: Desired.STARTED,
    State.STARTING: Desired.STARTED,
    State.STARTED: Desired.STARTED,
    State.STOPPING: Desired.STOPPED,
    State.STOPPED: Desired.STOPPED,
    State.DESTROYING: Desired.DESTROYED,
    State.DESTROYED: Desired.DESTROYED,
}
"""What a state says about the owner's wish; an error says nothing, the wish stays."""


def check_move(name: str, source: State, target: State) -> None:
    """Raise `Conflict` when a sandbox cannot go from `source` to `target`."""
    if target not in MOVES[source]:
        raise Conflict(f"sandbox {name} is {source}: it cannot become {target}")
