"""Warm pools: sandboxes of a snapshot that run already, for those who create one without wishes of their own."""

import asyncio
import logging
import sqlite3
import uuid
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from typing import Self

import msgspec

from controlplane.callers import Caller, acting_as
from controlplane.models import CreateSandbox, Record, organization
from controlplane.sandboxes import Sandboxes, launch_of
from controlplane.snapshots import Snapshots
from controlplane.states import State
from controlplane.store import Collection
from controlplane.wishes import DEFAULT_TARGET
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError
from toolbox.lifetime import TaskSet
from toolbox.web.middleware import timestamp

log = logging.getLogger(__name__)

MAX_SIZE = 100
_ACTOR = "warm-pool"
_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 300.0


class Pool(msgspec.Struct, kw_only=True, frozen=True):
    """A warm pool as it is remembered. Times are RFC 3339 in UTC."""

    id: str
    name: str
    """Of what it serves, `target/snapshot`: there is one pool for that."""
    organization_id: str = msgspec.field(default_factory=organization)
    snapshot: str
    target: str
    size: int
    cpu: int
    memory: int
    disk: int
    user: str
    created_at: str
    updated_at: str


class _Members:
    """The sandboxes that wait in one pool."""

    def __init__(self) -> None:
        self.ready: deque[Record] = deque()
        self.error: str | None = None
        self.retry_seconds = _FIRST_RETRY_SECONDS

    def discard(self, sandbox_id: str) -> bool:
        """Forget a sandbox; tell whether it was here."""
        for record in self.ready:
            if record.id == sandbox_id:
                self.ready.remove(record)
                return True
        return False


class Pools(ABC):
    """What clients do with warm pools."""

    @abstractmethod
    async def create(self, snapshot: str, size: int, target: str | None) -> Pool:
        """Make a pool; it fills in the background. Raises `NotFound`, `BadRequest`, `Conflict` when there is one."""

    @abstractmethod
    async def all(self) -> list[Pool]:
        """Return the pools, newest first."""

    @abstractmethod
    def status(self, pool: Pool) -> tuple[int, str | None]:
        """Return how many sandboxes of a pool are ready, and why it cannot be filled if it cannot."""

    @abstractmethod
    async def resize(self, pool_id: str, size: int) -> Pool:
        """Change how many sandboxes are kept ready; 0 empties the pool. Raises `NotFound`, `BadRequest`."""

    @abstractmethod
    async def delete(self, pool_id: str) -> None:
        """Remove a pool with what waits in it. Raises `NotFound`."""


def check_size(size: int, *, least: int) -> None:
    """Raise `BadRequest` for a pool that is too large, or smaller than `least`."""
    if not least <= size <= MAX_SIZE:
        raise BadRequest(f"pool: must be from {least} to {MAX_SIZE}")


async def specify(sandboxes: Sandboxes, snapshots: Snapshots, snapshot: str, target: str) -> Record:
    """Return the record of a sandbox about to wait in a pool. Raises `NotFound`, `BadRequest`."""
    wanted = CreateSandbox(snapshot=snapshot, target=target, auto_stop_interval=0, auto_archive_interval=0)
    resources = sandboxes.driver.check(wanted)
    return await sandboxes.specify(wanted, resources, await snapshots.usable(snapshot))


def new_pool(wanted: Record, size: int) -> Pool:
    """Return a pool of sandboxes that are as `wanted`."""
    now = timestamp()
    return Pool(
        id=str(uuid.uuid4()),
        name=f"{wanted.target}/{wanted.snapshot}",
        snapshot=wanted.snapshot,
        target=wanted.target,
        size=size,
        cpu=wanted.cpu,
        memory=wanted.memory,
        disk=wanted.disk,
        user=wanted.user,
        created_at=now,
        updated_at=now,
    )


class OwnPools(Pools):
    """Keeps the pools full itself, and hands out what is in them."""

    def __init__(self, sandboxes: Sandboxes, snapshots: Snapshots) -> None:
        self._sandboxes = sandboxes
        self._steps = sandboxes.steps
        self._snapshots = snapshots
        self._known: Collection[Pool] = self._steps.store.collection("warm_pool", Pool)
        self._pools: dict[str, Pool] = {}
        self._members: dict[str, _Members] = {}
        self._kicks: dict[str, asyncio.Event] = {}
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        for pool in await self._known.all():
            self._add(pool)
        for record in await self._steps.store.everything():
            if record.warm_pool_id is None:
                continue
            if record.state is State.STARTED and record.warm_pool_id in self._members:
                self._members[record.warm_pool_id].ready.append(record)
            else:
                self._tasks.start(self._remove(record.id), f"removal of {record.id}")
        self._steps.watch(self._changed)
        self._sandboxes.offer(self.claim)
        for pool_id in self._pools:
            self._tend(pool_id)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sandboxes.offer(None)
        await self._tasks.close()

    async def create(self, snapshot: str, size: int, target: str | None) -> Pool:
        """Make a pool; it fills in the background. Raises `NotFound`, `BadRequest`, `Conflict` when there is one."""
        check_size(size, least=1)
        pool = new_pool(await self._wanted(snapshot, target or DEFAULT_TARGET), size)
        try:
            await self._known.add(pool)
        except Conflict:
            raise Conflict(f"there is a warm pool of {pool.snapshot} in {pool.target} already") from None
        self._add(pool)
        self._tend(pool.id)
        return pool

    async def all(self) -> list[Pool]:
        """Return the pools, newest first."""
        return await self._known.all()

    def status(self, pool: Pool) -> tuple[int, str | None]:
        """Return how many sandboxes of a pool are ready, and why it cannot be filled if it cannot."""
        members = self._members.get(pool.id)
        return (len(members.ready), members.error) if members is not None else (0, None)

    async def resize(self, pool_id: str, size: int) -> Pool:
        """Change how many sandboxes are kept ready; 0 empties the pool. Raises `NotFound`, `BadRequest`."""
        check_size(size, least=0)
        changed = msgspec.structs.replace(await self._get(pool_id), size=size, updated_at=timestamp())
        await self._known.save(changed)
        self._pools[changed.id] = changed
        self._members[changed.id].retry_seconds = _FIRST_RETRY_SECONDS
        self._kicks[changed.id].set()
        return changed

    async def delete(self, pool_id: str) -> None:
        """Remove a pool with what waits in it. Raises `NotFound`."""
        pool = await self._get(pool_id)
        await self._known.remove(pool.id)
        self._pools.pop(pool.id, None)
        self._kicks[pool.id].set()  # its task does the rest

    async def claim(self, wanted: Record) -> Record | None:
        """Return a waiting sandbox that has become the one wanted, or None. Raises `Conflict` (the name)."""
        pool = next((each for each in self._pools.values() if _serves(each, wanted)), None)
        if pool is None:
            return None
        members = self._members[pool.id]
        while members.ready and _alike(members.ready[0], wanted):
            member = members.ready.popleft()
            try:
                claimed = await self._steps.hold(member.id, partial(self._take, member, wanted), "claim")
            except Conflict:
                members.ready.appendleft(member)
                raise
            except NotFound:
                continue
            finally:
                if member not in members.ready:
                    self._kicks[pool.id].set()
            if claimed.warm_pool_id is None:
                return claimed
        return None

    async def _take(self, member: Record, wanted: Record) -> Record:
        """Turn a waiting sandbox into the one wanted; one that does not run any more stays what it is."""
        record = await self._steps.get(member.id)
        if record.state is not State.STARTED or record.warm_pool_id is None:
            return record
        claimed = msgspec.structs.replace(
            record,
            name=member.id if wanted.name == wanted.id else wanted.name,
            labels=wanted.labels,
            public=wanted.public,
            auto_stop_interval=wanted.auto_stop_interval,
            auto_pause_interval=wanted.auto_pause_interval,
            auto_archive_interval=wanted.auto_archive_interval,
            auto_delete_interval=wanted.auto_delete_interval,
            auto_destroy_at=wanted.auto_destroy_at,
            queue_timeout=wanted.queue_timeout,
            warm_pool_id=None,
            created_at=wanted.created_at,
            updated_at=wanted.updated_at,
            state_since=wanted.created_at,
        )
        claimed = await self._steps.store.save(claimed)
        claimed = msgspec.structs.replace(claimed, last_activity_at=self._steps.touch(member.id))
        self._steps.announce(claimed)
        return claimed

    async def _get(self, pool_id: str) -> Pool:
        found = await self._known.find(pool_id)
        if found is None or found.id not in self._pools:
            raise NotFound(f"warm pool not found: {pool_id}")
        return found

    def _add(self, pool: Pool) -> None:
        self._pools[pool.id] = pool
        self._members[pool.id] = _Members()
        self._kicks[pool.id] = asyncio.Event()

    def _changed(self, record: Record, _: State | None) -> None:
        members = self._members.get(record.warm_pool_id or "")
        if members is not None and record.state is not State.STARTED and members.discard(record.id):
            self._kicks[record.warm_pool_id or ""].set()

    async def _wanted(self, snapshot: str, target: str) -> Record:
        return await specify(self._sandboxes, self._snapshots, snapshot, target)

    def _tend(self, pool_id: str) -> None:
        pool = self._pools[pool_id]
        caller = Caller(actor_id=_ACTOR, organization_id=pool.organization_id)

        async def tend() -> None:
            with acting_as(caller):
                await self._tend_forever(pool_id)

        self._tasks.start(tend(), f"warm pool {pool.name}")

    async def _tend_forever(self, pool_id: str) -> None:
        """Keep a pool at its size until it is deleted."""
        members, kick = self._members[pool_id], self._kicks[pool_id]
        while (pool := self._pools.get(pool_id)) is not None:
            kick.clear()
            try:
                await self._fit(pool, members)
                members.error, members.retry_seconds = None, _FIRST_RETRY_SECONDS
                await kick.wait()
            except (ToolboxError, OSError, sqlite3.Error) as error:
                members.error = str(error)
                log.warning("warm pool", extra={"fields": {"pool": pool.name, "reason": members.error}})
                await _first_of(kick, members.retry_seconds)
                members.retry_seconds = min(members.retry_seconds * 2, _LAST_RETRY_SECONDS)
        while members.ready:
            await self._remove(members.ready.popleft().id)
        self._members.pop(pool_id, None)
        self._kicks.pop(pool_id, None)

    async def _fit(self, pool: Pool, members: _Members) -> None:
        """Make or remove one sandbox after another until the pool has its size. Raises `ToolboxError`."""
        while len(members.ready) > pool.size:
            await self._remove(members.ready.popleft().id)
        if not pool.size:
            return
        wanted = await self._wanted(pool.snapshot, pool.target)
        for stale in [each for each in members.ready if not _alike(each, wanted)]:
            members.discard(stale.id)
            await self._remove(stale.id)
        while len(members.ready) < pool.size and self._pools.get(pool.id) is pool:
            wanted = await self._wanted(pool.snapshot, pool.target)
            made = await self._sandboxes.make(msgspec.structs.replace(wanted, warm_pool_id=pool.id))
            members.ready.append(made)

    async def _remove(self, sandbox_id: str) -> None:
        try:
            await self._sandboxes.delete(sandbox_id)
        except NotFound:
            return
        except ToolboxError as error:
            log.warning("warm pool", extra={"fields": {"sandbox": sandbox_id, "reason": error.message}})


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _serves(pool: Pool, wanted: Record) -> bool:
    return (pool.organization_id, pool.snapshot, pool.target) == (
        wanted.organization_id,
        wanted.snapshot,
        wanted.target,
    )


def _alike(member: Record, wanted: Record) -> bool:
    """Tell whether a driver would make the same of both: no variables, volumes, another user or network."""
    if wanted.secrets or wanted.build_info or wanted.linked_sandbox_id or wanted.kvm or wanted.spot:
        return False
    return msgspec.structs.replace(launch_of(member), id="") == msgspec.structs.replace(launch_of(wanted), id="")
