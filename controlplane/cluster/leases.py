"""Which replicas of the control plane live, and which one of them leads.

A replica lives as long as its lease is renewed. Whether it was, each measures by its own clock: clocks may differ.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Self

from controlplane.cluster.api import Cluster
from controlplane.cluster.kinds import LEASE, Lease
from controlplane.cluster.mirror import Mirror
from controlplane.cluster.names import LEADER, MANAGED, OURS, replica_name
from toolbox.errors import Conflict, NotFound, ToolboxError
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
RENEW_SECONDS = 4.0
_LOOK_SECONDS = 1.0
_DEAF_SECONDS = 2 * RENEW_SECONDS
_DEAD_SECONDS = 4 * LEASE_SECONDS

Work = Callable[[], Coroutine[Any, Any, None]]


class Leases:
    """The lease of this replica, those of the others, and that of the leader."""

    def __init__(self, cluster: Cluster) -> None:
        self.me = f"{socket.gethostname().lower()[:40].rstrip('-.')}-{os.urandom(3).hex()}"
        self._cluster = cluster
        self._mirror = Mirror(cluster, LEASE, OURS, self._seen)
        self._seen_at: dict[str, float] = {}
        self._renewed_at = time.monotonic()
        self._deaf_until = 0.0
        self._leading: TaskSet | None = None
        self._led_at = 0.0
        self._works: list[tuple[Work, str]] = []
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        await self._renew()
        await self._mirror.__aenter__()
        self._tasks.start(self._renew_forever(), "lease of this replica")
        self._tasks.start(self._stand_forever(), "election")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of everything, so that another replica goes on at once."""
        await self._tasks.close()
        await self._step_down()
        await self._mirror.__aexit__()
        try:
            leader = await self._cluster.get(LEASE, LEADER)
            if leader is not None and leader.spec.holder_identity == self.me:
                await self._cluster.delete(LEASE, LEADER, uid=leader.metadata.uid)
            await self._cluster.delete(LEASE, replica_name(self.me))
        except ToolboxError as error:
            log.warning("a lease runs out by itself", extra={"fields": {"why": error.message}})

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads, as far as it can know."""
        return self._leading is not None and time.monotonic() - self._led_at < LEASE_SECONDS

    def lead(self, work: Work, name: str) -> None:
        """Do `work` as long as this replica leads, and begin anew each time it comes to."""
        self._works.append((work, name))
        if self._leading is not None:
            self._leading.start(work(), name)

    async def resign(self) -> None:
        """End all work of a leader here, for good; another replica leads when this one lets go of its lease."""
        self._works.clear()
        await self._step_down()

    def is_alive(self, replica: str) -> bool:
        """Tell whether a replica has renewed its lease lately."""
        if replica == self.me:
            return True
        return self._is_fresh(replica_name(replica))

    async def tidy(self) -> None:
        """Remove the leases of replicas that died long ago. Raises `ToolboxError`."""
        for lease in self._mirror:
            name = lease.metadata.name
            if name != LEADER and time.monotonic() - self._seen_at.get(name, 0.0) > _DEAD_SECONDS:
                await self._cluster.delete(LEASE, name, uid=lease.metadata.uid)

    def _is_fresh(self, name: str) -> bool:
        lease, seen = self._mirror.get(name), self._seen_at.get(name)
        if lease is None or seen is None:
            return False
        now = time.monotonic()
        return now - seen < LEASE_SECONDS or now < self._deaf_until or self._is_cut_off(now)

    def _is_cut_off(self, now: float) -> bool:
        """Tell whether this replica has not reached the API server lately: then it cannot say that others are dead."""
        return now - self._renewed_at > _DEAF_SECONDS

    def _seen(self, name: str, before: Lease | None, after: Lease | None) -> None:
        if after is None:
            self._seen_at.pop(name, None)
        elif before is None or before.spec.renew_time != after.spec.renew_time:
            self._seen_at[name] = time.monotonic()

    async def _renew(self) -> None:
        name = replica_name(self.me)
        try:
            await self._cluster.patch(LEASE, name, {"spec": self._spec()})
        except NotFound:
            await self._cluster.create(LEASE, {"metadata": {"name": name, "labels": MANAGED}, "spec": self._spec()})
        now = time.monotonic()
        if self._is_cut_off(now):
            # The others were cut off too, perhaps: until they can have been heard, they count as alive.
            self._deaf_until = now + LEASE_SECONDS
        self._renewed_at = now

    def _spec(self) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"holderIdentity": self.me, "leaseDurationSeconds": int(LEASE_SECONDS), "renewTime": now}

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._renew()
            except ToolboxError as error:
                log.warning("the lease of this replica is not renewed", extra={"fields": {"why": error.message}})

    async def _stand_forever(self) -> None:
        """Lead as soon as nobody else does, and as long as we can say so."""
        while True:
            left = self._led_at + LEASE_SECONDS - time.monotonic() if self._leading is not None else None
            try:
                async with asyncio.timeout(left):
                    await self._stand()
                    await asyncio.sleep(RENEW_SECONDS if self._leading is not None else _LOOK_SECONDS)
            except ToolboxError as error:
                log.warning("no election", extra={"fields": {"why": error.message}})
                await asyncio.sleep(_LOOK_SECONDS)
            except TimeoutError:
                log.warning("the lease to lead has run out")
            if self._leading is not None and not self.is_leader:
                await self._step_down()

    async def _stand(self) -> None:
        lease = self._mirror.get(LEADER)
        mine = lease is not None and lease.spec.holder_identity == self.me
        if lease is not None and not mine and self._is_fresh(LEADER):
            await self._step_down()
            return
        metadata: dict[str, Any] = {"name": LEADER, "labels": MANAGED}
        asked = time.monotonic()
        try:
            if lease is None:
                won = await self._cluster.create(LEASE, {"metadata": metadata, "spec": self._spec()})
            else:
                metadata["resourceVersion"] = lease.metadata.resource_version
                won = await self._cluster.replace(LEASE, LEADER, {"metadata": metadata, "spec": self._spec()})
        except (Conflict, NotFound):
            return  # another was faster; the watch tells
        self._mirror.put(won)
        self._led_at = asked
        if self._leading is None:
            log.info("this replica leads", extra={"fields": {"replica": self.me}})
            self._leading = TaskSet()
            for work, name in self._works:
                self._leading.start(work(), name)

    async def _step_down(self) -> None:
        leading, self._leading = self._leading, None
        if leading is not None:
            log.warning("this replica leads no more", extra={"fields": {"replica": self.me}})
            await leading.close()
