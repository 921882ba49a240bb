"""One step of a sandbox after another: serialised, carried to the end, remembered, told to who watches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from controlplane.models import Record
from controlplane.states import DESIRED, State, check_move
from controlplane.store import Contended, Repository
from toolbox.errors import Conflict, NotFound, ToolboxError
from toolbox.lifetime import TaskSet
from toolbox.web.middleware import timestamp

log = logging.getLogger(__name__)

Step = Callable[[Record], Awaitable[Record]]
Watcher = Callable[[Record, State | None], None]
"""Called with a sandbox as it now is, and the state it was in; None for a new one."""

_LATE_SECONDS = 60.0
"""News of a sandbox that is gone may still come for so long."""
_TRIES = 8
"""How often a step begins anew because another replica was faster."""
ACTIVITY_SECONDS = 5.0
"""How often the times of last activity are written: a crash loses at most this."""


class Steps:
    """What is done to sandboxes goes through here; `record` in, `record` out."""

    def __init__(self, store: Repository) -> None:
        self.store = store
        self.tasks = TaskSet()
        self._locks = _Locks()
        self.in_the_making: set[str] = set()
        """Sandboxes that something here is at work on between their steps too."""
        self._active: dict[str, str] = {}
        self._watchers: list[Watcher] = []
        self._spectators: list[Watcher] = []
        self._shown: dict[str, int] = {}
        """Id of a sandbox -> the revision that spectators have seen."""
        store.follow(self._follow)

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` of every new sandbox and every change of state that is made here."""
        self._watchers.append(watcher)

    def spectate(self, spectator: Watcher) -> None:
        """Tell `spectator` of those, and of what other replicas make."""
        self._spectators.append(spectator)

    async def get(self, id_or_name: str) -> Record:
        """Return a sandbox. Raises `NotFound`."""
        await self.write_activity()
        return await self.seen(id_or_name)

    async def seen(self, id_or_name: str) -> Record:
        """Return a sandbox without its latest activity, for those who only look. Raises `NotFound`."""
        record = await self.store.find(id_or_name)
        if record is None:
            raise NotFound(f"sandbox not found: {id_or_name}")
        return record

    def touch(self, sandbox_id: str) -> str:
        """Note that the sandbox is in use, and return the time."""
        moment = self._active[sandbox_id] = timestamp()
        return moment

    def announce(self, record: Record) -> None:
        """Tell who watches that there is a sandbox now which was hidden before."""
        self._tell(record, None)

    async def add(self, record: Record) -> Record:
        """Remember a new sandbox. Raises `Conflict` when its name is taken."""
        added = await self.store.add(record)
        self._tell(added, None)
        return added

    async def move(
        self, record: Record, target: State, *, reason: str | None = None, recoverable: bool = False, **changes: Any
    ) -> Record:
        """Bring a sandbox into another state. Raises `Conflict` for a move there is not."""
        check_move(record.name, record.state, target)
        moved = moved_to(record, target, error_reason=reason, recoverable=recoverable, **changes)
        moved = await self.store.save(moved)
        self._tell(moved, record.state)
        return moved

    async def forget(self, record: Record) -> Record:
        """Forget a sandbox that is gone, and return it as destroyed."""
        await self.store.remove(record.id)
        self._active.pop(record.id, None)
        gone = moved_to(record, State.DESTROYED)
        self._tell(gone, record.state)
        return gone

    async def change(self, id_or_name: str, **changes: Any) -> Record:
        """Change fields that have nothing to do with the state. Raises `NotFound`."""

        async def step(record: Record) -> Record:
            return await self.store.save(msgspec.structs.replace(record, updated_at=timestamp(), **changes))

        return await self.run(id_or_name, step, "change")

    async def run(self, id_or_name: str, step: Step, name: str) -> Record:
        """Run one step of a sandbox, after those before it; what happened meanwhile decides whether it is legal."""
        found = await self.get(id_or_name)

        async def work() -> Record:
            for _ in range(_TRIES):
                try:
                    return await step(await self._at_rest(found.id))
                except Contended:
                    continue
            raise Conflict(f"sandbox {found.name} is being changed by others all the time")

        return await self.hold(found.id, work, f"{name} {found.id}")

    async def _at_rest(self, sandbox_id: str) -> Record:
        await self.write_activity()
        record = await self.store.at_rest(sandbox_id)
        if record is None:
            raise NotFound(f"sandbox not found: {sandbox_id}")
        return record

    async def hold(self, sandbox_id: str, work: Callable[[], Awaitable[Record]], name: str) -> Record:
        """Run `work` on a sandbox whose turn it is, to its end even when the client that asked for it goes away."""
        async with self._locks.hold(sandbox_id):
            return await self._to_the_end(work(), name)

    async def begin(self, id_or_name: str, first: Step, rest: Step, name: str) -> Record:
        """Run `first` and return what it gives; `rest` follows in the background, before any other step.

        Errors of `first` are raised; `rest` has to put its own into the record.
        """
        found = await self.get(id_or_name)
        begun: asyncio.Future[Record] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            async with self._locks.hold(found.id):
                try:
                    record = await first(await self._at_rest(found.id))
                except BaseException as error:
                    if not begun.done():
                        begun.set_exception(error if isinstance(error, ToolboxError) else RuntimeError(str(error)))
                        begun.exception()  # it may be that nobody waits any more
                    if not isinstance(error, ToolboxError):
                        raise
                    return
                if not begun.done():
                    begun.set_result(record)
                await rest(record)

        self.tasks.start(work(), f"{name} {found.id}")
        return await asyncio.shield(begun)

    async def _to_the_end(self, work: Awaitable[Record], name: str) -> Record:
        async def guarded() -> Record | ToolboxError:
            try:
                return await work
            except ToolboxError as error:
                return error

        task = self.tasks.start(guarded(), name)
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            # The lock is held until the step is over: only the server's own end cuts it short.
            await asyncio.wait([task])
            raise
        if isinstance(outcome, ToolboxError):
            raise outcome
        return outcome

    def is_busy(self, sandbox_id: str) -> bool:
        """Tell whether something is being done to a sandbox here."""
        return sandbox_id in self._locks or sandbox_id in self.in_the_making

    async def finish(self, seconds: float) -> None:
        """Wait until the steps that are under way have ended, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._locks.none_held()
        except TimeoutError:
            log.warning("steps of sandboxes are cut short", extra={"fields": {"count": len(self._locks)}})

    def _tell(self, record: Record, before: State | None) -> None:
        _tell_all(self._watchers, record, before)
        self._show(record, before)

    def _follow(self, before: Record | None, after: Record | None) -> None:
        """Take note of what happened elsewhere, or here: the news of it may be faster than the answer."""
        if after is None and before is not None:
            self._show(moved_to(before, State.DESTROYED), before.state)
        elif after is not None:
            self._show(after, before.state if before is not None else None)

    def _show(self, record: Record, before: State | None) -> None:
        """Tell spectators of a change once."""
        if record.revision:
            seen = self._shown.get(record.id, 0)
            if seen < 0 or (record.revision <= seen and record.state is not State.DESTROYED):
                return
            self._shown[record.id] = -1 if record.state is State.DESTROYED else record.revision
            if record.state is State.DESTROYED:
                asyncio.get_running_loop().call_later(_LATE_SECONDS, self._shown.pop, record.id, None)
        if before is not record.state:
            _tell_all(self._spectators, record, before)

    async def write_activity_forever(self) -> None:
        """Write the times of last activity now and then."""
        while True:
            await asyncio.sleep(ACTIVITY_SECONDS)
            await self.write_activity()

    async def write_activity(self) -> None:
        """Write the times of last activity."""
        if self._active:
            moments, self._active = self._active, {}
            await self.store.touch(moments)


def _tell_all(watchers: list[Watcher], record: Record, before: State | None) -> None:
    for watcher in watchers:
        try:
            watcher(record, before)
        except Exception:  # a watcher's fault is not the sandbox's
            log.exception("a watcher of sandboxes failed")


def moved_to(record: Record, target: State, **changes: Any) -> Record:
    """Return the record in another state."""
    changes.setdefault("desired_state", DESIRED.get(target, record.desired_state))
    now = timestamp()
    return msgspec.structs.replace(record, state=target, updated_at=now, state_since=now, **changes)


class _Locks:
    """One lock for each sandbox that something is being done to."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def __contains__(self, sandbox_id: str) -> bool:
        return sandbox_id in self._locks

    def __len__(self) -> int:
        return len(self._locks)

    async def none_held(self) -> None:
        """Return when nothing is being done to any sandbox."""
        while self._locks:
            lock, _ = next(iter(self._locks.values()))
            async with lock:
                pass
            await asyncio.sleep(0)

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
