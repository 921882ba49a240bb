"""What happens to sandboxes by themselves: stopped, paused, archived and deleted when their time has come."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from controlplane.copies import Copies
from controlplane.models import Record
from controlplane.sandboxes import Sandboxes
from controlplane.states import State
from toolbox.errors import NotFound, ToolboxError

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
_SET_SECONDS = 30.0
LONGEST_ARCHIVE_MINUTES = 30 * 24 * 60
"""What an auto-archive interval of 0 means."""


class _Clock:
    """Compares the time of day with the time that has passed."""

    def __init__(self) -> None:
        self._offset = self._now()

    @staticmethod
    def _now() -> float:
        return time.time() - time.monotonic()

    def was_set(self) -> bool:
        """Tell whether the time of day has jumped since the last call (or the machine has slept)."""
        before, self._offset = self._offset, self._now()
        return abs(self._offset - before) > _SET_SECONDS


class Lifetimes:
    """Acts on the intervals of all sandboxes."""

    def __init__(self, sandboxes: Sandboxes, copies: Copies) -> None:
        self._sandboxes = sandboxes
        self._copies = copies

    async def watch(self) -> None:
        """Look again and again, for ever."""
        clock = _Clock()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if clock.was_set():
                # How long they were idle cannot be told any more, and to stop one in use is worse than one too late.
                log.warning("the clock was set: sandboxes that run count as used just now")
                await self._sandboxes.touch_running()
            await self.look(datetime.now(UTC))

    async def look(self, now: datetime) -> None:
        """Do what is due at `now`. One sandbox's failure keeps none of the others."""
        await self._sandboxes.steps.write_activity()
        for record in await self._sandboxes.steps.store.everything():
            try:
                # Those before it took their time: what was due may be so no more.
                await self._act(await self._sandboxes.seen(record.id), now)
            except NotFound:
                continue
            except ToolboxError as error:
                fields = {"sandbox": record.id, "reason": error.message}
                log.warning("what was due for a sandbox failed", extra={"fields": fields})

    async def _act(self, record: Record, now: datetime) -> None:
        if record.auto_destroy_at is not None and _time(record.auto_destroy_at) <= now:
            await self._sandboxes.delete(record.id)
        elif record.state is State.STARTED:
            if _due(record.auto_stop_interval, record.last_activity_at, now):
                await self._sandboxes.stop(record.id, force=False)
            elif _due(record.auto_pause_interval, record.last_activity_at, now):
                await self._sandboxes.pause(record.id)
        elif record.state in (State.STOPPED, State.ARCHIVED) and _due(
            record.auto_delete_interval, record.state_since, now
        ):
            await self._sandboxes.delete(record.id)
        elif record.state is State.STOPPED and self._copies.can_archive:
            interval = record.auto_archive_interval or LONGEST_ARCHIVE_MINUTES
            if _due(interval, record.state_since, now):
                await self._copies.archive(record.id)


def _due(minutes: int, since: str, now: datetime) -> bool:
    return minutes > 0 and bool(since) and now - _time(since) >= timedelta(minutes=minutes)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
