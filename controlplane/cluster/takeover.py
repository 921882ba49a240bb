"""What was begun with sandboxes and is left half done: by a replica that is no more, or by this one in an outage."""

import asyncio
import logging
from datetime import timedelta

from controlplane.callers import act_as
from controlplane.cluster.fleet import AT_WORK, Entry, Fleet
from controlplane.cluster.leases import Leases
from controlplane.cluster.repository import ClusterRepository
from controlplane.drivers.kubernetes.driver import KubernetesDriver
from controlplane.grants import Grants
from controlplane.models import Record
from controlplane.recovery import Recovery
from controlplane.sandboxes import Sandboxes
from controlplane.volumes import Volumes
from toolbox.errors import NotFound, ToolboxError
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_TIDY_EVERY = 30
"""Looks."""
_YOUNG = timedelta(minutes=2)


class Takeover:
    """Looks after what nobody else looks after."""

    def __init__(
        self,
        fleet: Fleet,
        leases: Leases,
        store: ClusterRepository,
        driver: KubernetesDriver,
        sandboxes: Sandboxes,
        volumes: Volumes,
        grants: Grants,
    ) -> None:
        self._fleet = fleet
        self._leases = leases
        self._store = store
        self._driver = driver
        self._sandboxes = sandboxes
        self._recovery = Recovery(sandboxes)
        self._volumes = volumes
        self._grants = grants
        self._settling: set[str] = set()

    async def watch(self) -> None:
        """Look again and again, for ever."""
        act_as(None)
        looks = 0
        async with TaskSet() as tasks:
            while True:
                for entry in self._fleet:
                    if self._is_orphan(entry) and entry.id not in self._settling:
                        self._settling.add(entry.id)
                        tasks.start(self._settle(entry), f"take-over of {entry.id}")
                if looks % _TIDY_EVERY == 0 and self._leases.is_leader:
                    await self._tidy()
                looks += 1
                await asyncio.sleep(_LOOK_SECONDS)

    def _is_orphan(self, entry: Entry) -> bool:
        """Tell whether nobody is at work on a sandbox that is in the middle of something, and it is ours to do."""
        if entry.record.state not in AT_WORK:
            return False
        if entry.holder == self._leases.me:
            return not self._sandboxes.steps.is_busy(entry.id)
        return self._leases.is_leader and not self._leases.is_alive(entry.holder)

    async def _settle(self, entry: Entry) -> None:
        async def step(record: Record) -> Record:
            now = self._fleet.get(record.id)
            if now is None or record.state not in AT_WORK or now.holder not in (entry.holder, ""):
                return record
            log.warning("taking over a sandbox", extra={"fields": {"sandbox": record.id, "from": now.holder}})
            return await self._recovery.settle(record, await self._driver.adopt(record.id))

        try:
            await self._sandboxes.steps.run(entry.id, step, "take-over of")
        except NotFound:
            pass
        except ToolboxError as error:
            log.warning("a sandbox cannot be settled", extra={"fields": {"sandbox": entry.id, "why": error.message}})
        finally:
            self._settling.discard(entry.id)

    async def _tidy(self) -> None:
        try:
            await self._store.tidy()
            await self._leases.tidy()
            await self._volumes.settle(_YOUNG)
            await self._grants.forget_expired()
        except ToolboxError as error:
            log.warning("tidying up", extra={"fields": {"why": error.message}})
