"""The sandboxes: made, started, stopped, changed and deleted, one step at a time each."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec

from controlplane.drivers.base import Access, Driver, Launch
from controlplane.keys import SandboxKeys
from controlplane.listing import Filter, Listing
from controlplane.models import DEFAULT_SNAPSHOT, CreateSandbox, Record
from controlplane.states import DESIRED, State, check_move
from controlplane.store import Repository
from controlplane.upstreams import Upstreams
from controlplane.wishes import check_labels, destroy_time, minutes, new_record
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError, Unavailable
from toolbox.lifetime import TaskSet
from toolbox.web.middleware import timestamp

log = logging.getLogger(__name__)

Step = Callable[[Record], Awaitable[Record]]

ACTIVITY_SECONDS = 5.0
"""How often the times of last activity are written: a crash loses at most this."""
_INTERVALS = {
    "autostop": ("auto_stop_interval", 0),
    "autoarchive": ("auto_archive_interval", 0),
    "autodelete": ("auto_delete_interval", -1),
    "autopause": ("auto_pause_interval", 0),
}
"""Word in the URL -> field, least value."""


class Sandboxes:
    """Every sandbox of this control plane."""

    def __init__(self, store: Repository, driver: Driver, upstreams: Upstreams, keys: SandboxKeys) -> None:
        self._store = store
        self._driver = driver
        self._upstreams = upstreams
        self._keys = keys
        self._tasks = TaskSet()
        self._locks = _Locks()
        self._active: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._driver.watch(self._died)
        await self._recover()
        self._tasks.start(self._write_activity_forever(), "activity")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop every sandbox: nothing runs without its control plane."""
        await self._tasks.close()
        await self._write_activity()
        running = [record for record in await self._store.everything() if record.state is State.STARTED]
        await asyncio.gather(*map(self._put_down, running), return_exceptions=True)

    async def create(self, wanted: CreateSandbox) -> Record:
        """Make a sandbox and start it. Raises `BadRequest`, `Conflict` (the name), `DriverError`."""
        resources = self._driver.check(wanted)
        record = new_record(wanted, resources, snapshot=wanted.snapshot or DEFAULT_SNAPSHOT, user=self._driver.user)

        async def make() -> Record:
            await self._store.add(record)
            launch = Launch(id=record.id, env=record.env)
            try:
                await self._driver.create(launch)
                return await self._run(record, launch)
            except ToolboxError:
                # Half a sandbox helps nobody: the client gets the reason, and nothing stays.
                await self._driver.delete(record.id)
                await self._store.remove(record.id)
                raise

        async with self._locks.hold(record.id):
            return await self._to_the_end(make(), f"create {record.id}")

    async def get(self, id_or_name: str) -> Record:
        """Return a sandbox. Raises `NotFound`."""
        await self._write_activity()
        return await self.seen(id_or_name)

    async def page(self, listing: Listing) -> tuple[list[Record], str | None]:
        """Return one page of a list, and the cursor of the next one if there is more."""
        await self._write_activity()
        records = await self._store.page(msgspec.structs.replace(listing, limit=listing.limit + 1))
        if len(records) <= listing.limit:
            return records, None
        del records[listing.limit :]
        return records, listing.position(records[-1]).cursor()

    async def numbered_page(self, wanted: Filter, *, page: int, limit: int) -> tuple[list[Record], int]:
        """Return one page of the newest sandboxes first, and how many there are in all."""
        await self._write_activity()
        listing = Listing(filter=wanted, sort="created_at", descending=True, limit=limit)
        return await self._store.page(listing, offset=(page - 1) * limit), await self._store.count(wanted)

    async def start(self, id_or_name: str) -> Record:
        """Start a sandbox; a running one stays as it is. Raises `NotFound`, `Conflict`, `DriverError`."""

        async def step(record: Record) -> Record:
            if record.state is State.STARTED:
                return record
            starting = await self._move(record, State.STARTING)
            try:
                return await self._run(starting, Launch(id=record.id, env=record.env))
            except ToolboxError as error:
                await self._move(starting, State.ERROR, reason=error.message, recoverable=True)
                raise

        return await self._step(id_or_name, step, "start")

    async def recover(self, id_or_name: str) -> Record:
        """Start a sandbox that is in error. Raises `NotFound`, `BadRequest`, `DriverError`."""
        record = await self.get(id_or_name)
        if record.state is not State.ERROR:
            raise BadRequest(f"sandbox {record.name} is {record.state}: only one in error can be recovered")
        return await self.start(record.id)

    async def stop(self, id_or_name: str, *, force: bool) -> Record:
        """End all that runs in a sandbox and keep its files. Raises `NotFound`, `Conflict`."""

        async def step(record: Record) -> Record:
            if record.state is State.STOPPED:
                return record
            stopping = await self._move(record, State.STOPPING)
            await self._upstreams.close(record.id)
            await self._driver.stop(record.id, force=force)
            return await self._move(stopping, State.STOPPED)

        return await self._step(id_or_name, step, "stop")

    async def delete(self, id_or_name: str) -> Record:
        """Remove a sandbox with all that is in it. Raises `NotFound`, `DriverError`."""
        return await self._step(id_or_name, self._destroy, "delete")

    async def set_labels(self, id_or_name: str, labels: dict[str, str]) -> Record:
        """Replace all labels. Raises `NotFound`, `BadRequest`."""
        check_labels(labels)
        return await self._change(id_or_name, labels=labels)

    async def set_interval(self, id_or_name: str, kind: str, value: int) -> Record:
        """Change an automatic interval. Raises `NotFound`, `BadRequest`."""
        field, least = _INTERVALS[kind]
        if kind == "autopause" and value:
            raise BadRequest(f"autoPauseInterval: the {self._driver.name} driver cannot pause")
        return await self._change(id_or_name, **{field: minutes(kind, value, least=least)})

    async def set_ttl(self, id_or_name: str, value: int) -> Record:
        """Change how long the sandbox may live, counted from its creation. Raises `NotFound`, `BadRequest`."""
        record = await self.get(id_or_name)
        return await self._change(record.id, auto_destroy_at=destroy_time(record.created_at, minutes("ttl", value)))

    async def set_public(self, id_or_name: str, *, public: bool) -> Record:
        """Change whether previews need no token. Raises `NotFound`."""
        return await self._change(id_or_name, public=public)

    async def signing_key(self, id_or_name: str) -> str:
        """Return the key that file URLs are signed with. Raises `NotFound`."""
        return self._signing_key(await self.get(id_or_name))

    async def rotate_signing_key(self, id_or_name: str) -> str:
        """Return a new key; what was signed with the one before is good no more. Raises `NotFound`."""

        async def step(record: Record) -> Record:
            rotated = msgspec.structs.replace(
                record, signing_generation=record.signing_generation + 1, updated_at=timestamp()
            )
            await self._store.save(rotated)
            self._upstreams.accept_signatures(record.id, self._signing_key(rotated))
            return rotated

        return self._signing_key(await self._step(id_or_name, step, "rotate"))

    def _signing_key(self, record: Record) -> str:
        return self._keys.signing_key(record.id, record.signing_generation)

    async def seen(self, id_or_name: str) -> Record:
        """Return a sandbox without its latest activity, for those who only look. Raises `NotFound`."""
        record = await self._store.find(id_or_name)
        if record is None:
            raise NotFound(f"sandbox not found: {id_or_name}")
        return record

    def touch(self, sandbox_id: str) -> str:
        """Note that the sandbox is in use, and return the time."""
        moment = self._active[sandbox_id] = timestamp()
        return moment

    async def why_unreachable(self, sandbox_id: str) -> ToolboxError:
        """Return what to tell a client whose sandbox has no daemon to talk to."""
        record = await self._store.find(sandbox_id)
        if record is None:
            return NotFound(f"sandbox not found: {sandbox_id}")
        text = f"sandbox {record.name} is {record.state}"
        if record.state in (State.CREATING, State.STARTING):
            return Unavailable(text)
        return Conflict(f"{text}: {record.error_reason}" if record.error_reason else text)

    async def _run(self, record: Record, launch: Launch) -> Record:
        """Start the daemon and let requests through to it."""
        access = await self._driver.start(launch)
        return await self._connect(record, access)

    async def _connect(self, record: Record, access: Access) -> Record:
        await self._open(record, access)
        return await self._move(
            record, State.STARTED, daemon_version=access.daemon_version, last_activity_at=self.touch(record.id)
        )

    async def _open(self, record: Record, access: Access) -> None:
        await self._upstreams.open(record.id, access, signing_key=self._signing_key(record))

    async def _destroy(self, record: Record) -> Record:
        destroying = record if record.state is State.DESTROYING else await self._move(record, State.DESTROYING)
        await self._upstreams.close(record.id)
        await self._driver.delete(record.id)
        await self._store.remove(record.id)
        self._active.pop(record.id, None)
        return _moved(destroying, State.DESTROYED)

    async def _move(
        self, record: Record, target: State, *, reason: str | None = None, recoverable: bool = False, **changes: Any
    ) -> Record:
        check_move(record.name, record.state, target)
        moved = _moved(record, target, error_reason=reason, recoverable=recoverable, **changes)
        await self._store.save(moved)
        return moved

    async def _change(self, id_or_name: str, **changes: Any) -> Record:
        async def step(record: Record) -> Record:
            changed = msgspec.structs.replace(record, updated_at=timestamp(), **changes)
            await self._store.save(changed)
            return changed

        return await self._step(id_or_name, step, "change")

    async def _step(self, id_or_name: str, step: Step, name: str) -> Record:
        """Run one step of a sandbox, after those before it; what happened meanwhile decides whether it is legal."""
        found = await self.get(id_or_name)

        async def run() -> Record:
            return await step(await self.get(found.id))

        async with self._locks.hold(found.id):
            return await self._to_the_end(run(), f"{name} {found.id}")

    async def _to_the_end(self, work: Awaitable[Record], name: str) -> Record:
        """Run `work` even when the client that asked for it goes away."""

        async def guarded() -> Record | ToolboxError:
            try:
                return await work
            except ToolboxError as error:
                return error

        task = self._tasks.start(guarded(), name)
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            # The lock is held until the step is over: only the server's own end cuts it short.
            await asyncio.wait([task])
            raise
        if isinstance(outcome, ToolboxError):
            raise outcome
        return outcome

    def _died(self, sandbox_id: str, reason: str) -> None:
        self._tasks.start(self._record_death(sandbox_id, reason), f"death of {sandbox_id}")

    async def _record_death(self, sandbox_id: str, reason: str) -> None:
        async with self._locks.hold(sandbox_id):
            record = await self._store.find(sandbox_id)
            if record is None or record.state is not State.STARTED or self._driver.is_running(sandbox_id):
                return
            await self._upstreams.close(sandbox_id)
            await self._move(record, State.ERROR, reason=reason, recoverable=True)
            log.warning("sandbox died", extra={"fields": {"sandbox": sandbox_id, "reason": reason}})

    async def _recover(self) -> None:
        """Bring records and daemons together after whatever ended the control plane before."""
        records = await self._store.everything()
        alive = await self._driver.recover(
            {record.id for record in records if record.state in (State.STARTED, State.STARTING, State.CREATING)}
        )
        for record in records:
            await self._settle(record, alive.get(record.id))

    async def _settle(self, record: Record, access: Access | None) -> None:
        match record.state:
            case State.STARTED if access is not None:
                await self._open(record, access)
            case State.STARTED:
                await self._move(record, State.STOPPED)
            case State.STARTING | State.CREATING if access is not None:
                await self._connect(record, access)
            case State.STARTING:
                await self._move(record, State.STOPPED)
            case State.CREATING | State.DESTROYING:
                # The client of a half-made sandbox never learned its id.
                await self._destroy(record)
            case State.STOPPING:
                await self._move(record, State.STOPPED)

    async def _put_down(self, record: Record) -> None:
        await self._upstreams.close(record.id)
        await self._driver.stop(record.id, force=False)
        await self._move(record, State.STOPPED)

    async def _write_activity_forever(self) -> None:
        while True:
            await asyncio.sleep(ACTIVITY_SECONDS)
            await self._write_activity()

    async def _write_activity(self) -> None:
        if self._active:
            moments, self._active = self._active, {}
            await self._store.touch(moments)


def _moved(record: Record, target: State, **changes: Any) -> Record:
    changes.setdefault("desired_state", DESIRED.get(target, record.desired_state))
    return msgspec.structs.replace(record, state=target, updated_at=timestamp(), **changes)


class _Locks:
    """One lock for each sandbox that something is being done to."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, sandbox_id: str) -> AsyncIterator[None]:
        lock, holders = self._locks.get(sandbox_id, (asyncio.Lock(), 0))
        self._locks[sandbox_id] = (lock, holders + 1)
        try:
            async with lock:
                yield
        finally:
            lock, holders = self._locks.pop(sandbox_id)
            if holders > 1:
                self._locks[sandbox_id] = (lock, holders - 1)
