"""The audit log: who did what to which sandbox, when, and what came of it. Never a secret."""

import asyncio
import uuid
from typing import Self

import msgspec

from controlplane.callers import current_caller
from controlplane.history import Entry, History, Wanted
from controlplane.models import Record
from controlplane.states import State
from controlplane.steps import Steps
from toolbox.lifetime import TaskSet
from toolbox.web.middleware import timestamp

SYSTEM = "system"
"""Actor of what the control plane does by itself: intervals, deaths, restarts."""
KEEP_DAYS = 365
_TOLD = frozenset({State.STOPPED, State.PAUSED, State.ARCHIVED, State.ERROR, State.DESTROYED})
"""States that say what became of a sandbox; those on the way there are left out."""


class Audit:
    """Writes the log and reads it."""

    def __init__(self, history: History, steps: Steps) -> None:
        self._history = history
        self._tasks = TaskSet()
        steps.watch(self._changed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.finish()

    async def record(self, entry: Entry) -> None:
        """Write an entry, to its end even when the client that waits goes away."""
        await asyncio.shield(self._tasks.start(self._history.add_entry(entry), "audit entry"))

    async def page(self, wanted: Wanted, *, page: int, limit: int) -> tuple[list[Entry], int, int | None]:
        """Return one page of entries, the latest first; how many there are; and the number that the next is before."""
        offset = 0 if wanted.before is not None else (page - 1) * limit
        found, total = await self._history.entries(wanted, limit=limit, offset=offset)
        more = len(found) == limit and found[-1][0] > 1
        return [entry for _, entry in found], total, found[-1][0] if more else None

    def _changed(self, record: Record, before: State | None) -> None:
        if current_caller() is not None or before is None or record.state not in _TOLD or record.warm_pool_id:
            return
        entry = Entry(
            id=str(uuid.uuid4()),
            created_at=timestamp(),
            organization_id=record.organization_id,
            actor_id=SYSTEM,
            action=record.state,
            target_type="sandbox",
            target_id=record.id,
            error_message=record.error_reason,
            source=SYSTEM,
        )
        self._tasks.start(self._history.add_entry(entry), "audit entry")


def entry_of(*, action: str, target_type: str, target_id: str | None, status: int, error: str | None) -> Entry:
    """Return an entry about what the caller did. Raises `LookupError` without a caller."""
    caller = current_caller()
    if caller is None:
        raise LookupError("nobody calls")
    return Entry(
        id=str(uuid.uuid4()),
        created_at=timestamp(),
        organization_id=caller.organization_id,
        actor_id=caller.actor_id,
        actor_email=caller.email,
        actor_api_key_prefix=caller.key_prefix or None,
        actor_api_key_suffix=caller.key_suffix or None,
        action=action,
        target_type=target_type,
        target_id=target_id,
        status_code=status,
        error_message=error,
    )


def with_client(entry: Entry, *, ip_address: str | None, user_agent: str | None, source: str | None) -> Entry:
    """Return the entry with where the call came from."""
    return msgspec.structs.replace(entry, ip_address=ip_address, user_agent=user_agent, source=source)
