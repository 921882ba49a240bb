"""What running sandboxes use: looked at now and then, kept for a day."""

import asyncio
import logging
import sqlite3
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import msgspec

from controlplane.audit import KEEP_DAYS
from controlplane.history import History, Sample, Usage
from controlplane.sandboxes import Sandboxes
from controlplane.upstreams import Upstreams
from toolbox.errors import ToolboxError

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 15.0
KEEP_HOURS = 24
_AT_ONCE = 8
_CUT_EVERY = 240
"""Rounds after which what is too old is removed."""
FRESH_SECONDS = 1.0

METRICS = {
    "daytona.sandbox.cpu.utilization": "cpu_used_pct",
    "daytona.sandbox.cpu.limit": "cpu_count",
    "daytona.sandbox.memory.usage": "mem_used",
    "daytona.sandbox.memory.limit": "mem_total",
    "daytona.sandbox.memory.cache": "mem_cache",
    "daytona.sandbox.filesystem.usage": "disk_used",
    "daytona.sandbox.filesystem.total": "disk_total",
}
"""What clients call a metric -> field of a sample."""


class Telemetry:
    """Samples the sandboxes that run, and returns series of what was seen."""

    def __init__(self, history: History, sandboxes: Sandboxes, upstreams: Upstreams) -> None:
        self._history = history
        self._sandboxes = sandboxes
        self._upstreams = upstreams
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def watch(self) -> None:
        """Sample again and again, for ever."""
        rounds = 0
        while True:
            try:
                if rounds % _CUT_EVERY == 0:
                    await self._cut()
                await asyncio.sleep(SAMPLE_SECONDS)
                found = await asyncio.gather(*map(self._sample, self._upstreams.ids()))
                await self._history.add_samples([each for each in found if each is not None])
            except sqlite3.Error as error:  # a full disk may have room again
                log.warning("metrics cannot be kept", extra={"fields": {"why": str(error)}})
                await asyncio.sleep(SAMPLE_SECONDS)
            rounds += 1

    async def _cut(self) -> None:
        now = datetime.now(UTC)
        await self._history.cut(
            entries_before=_text(now - timedelta(days=KEEP_DAYS)),
            samples_before=_text(now - timedelta(hours=KEEP_HOURS)),
        )

    async def series(
        self, id_or_name: str, since: datetime, until: datetime, names: Collection[str]
    ) -> dict[str, list[tuple[str, float]]]:
        """Return metric -> its times and values, oldest first; of all metrics if none is named.

        A sandbox that runs is looked at once more if the range reaches to now. Raises `NotFound`.
        """
        record = await self._sandboxes.seen(id_or_name)
        now = datetime.now(UTC)
        if since <= now <= until + timedelta(seconds=FRESH_SECONDS):
            latest = await self._sample(record.id)
            if latest is not None:
                await self._history.add_samples([latest])
                until = max(until, datetime.fromisoformat(latest.at))
        samples = await self._history.samples(record.id, _text(since), _text(until))
        wanted = {name: field for name, field in METRICS.items() if not names or name in names}
        return {
            name: [(sample.at, getattr(sample, field)) for sample in samples] if samples else []
            for name, field in wanted.items()
        }

    async def _sample(self, sandbox_id: str) -> Sample | None:
        """Look at a sandbox; None if it does not run or does not answer."""
        async with self._at_once:
            upstream = self._upstreams.get(sandbox_id)
            if upstream is None:
                return None
            try:
                seen = msgspec.json.decode(await upstream.system_metrics(), type=Usage)
            except (ToolboxError, msgspec.MsgspecError) as error:
                log.debug("no metrics", extra={"fields": {"sandbox": sandbox_id, "why": str(error)}})
                return None
        return Sample(sandbox_id=sandbox_id, at=_text(datetime.now(UTC)), **msgspec.structs.asdict(seen))


def _text(moment: datetime) -> str:
    """Return a time as the store sorts it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
