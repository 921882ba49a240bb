"""Ownership of what lives longer than a request: tasks and registered things."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from toolbox.errors import Conflict, NotFound

T = TypeVar("T")
log = logging.getLogger(__name__)


class TaskSet:
    """Named tasks with one owner: an exception is logged, leaving the context cancels and awaits them all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run `coroutine` as a task of this set."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def finish(self) -> None:
        """Wait until every task has ended by itself."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Registry(Generic[T]):
    """Live things by id. Whoever observes a thing's end removes it; leaving the daemon closes the rest at once."""

    def __init__(self, kind: str, close: Callable[[T], Awaitable[object]]) -> None:
        self._kind = kind
        self._close = close
        self._things: dict[str, T] = {}

    def add(self, key: str, thing: T) -> None:
        """Register `thing`. Raises `Conflict` when the id is taken."""
        if key in self._things:
            raise Conflict(f"{self._kind} already exists: {key}")
        self._things[key] = thing

    def get(self, key: str) -> T:
        """Return the thing. Raises `NotFound`."""
        try:
            return self._things[key]
        except KeyError:
            raise NotFound(f"{self._kind} not found: {key}") from None

    def remove(self, key: str) -> None:
        """Forget the thing, if it is still there."""
        self._things.pop(key, None)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._things.values()))

    def __len__(self) -> int:
        return len(self._things)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        things = list(self)
        self._things.clear()
        for outcome in await asyncio.gather(*map(self._close, things), return_exceptions=True):
            if isinstance(outcome, Exception):
                log.error("closing a %s failed", self._kind, exc_info=outcome)


class Stop(asyncio.Event):
    """Set when this process is told to end, by a signal; when it is told again, `hurry` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.hurry = asyncio.Event()

    def tell(self) -> None:
        """Tell it to end."""
        (self.hurry if self.is_set() else self).set()


class Readiness:
    """Whether requests are welcome: not before the services are there, not while they are being left."""

    def __init__(self) -> None:
        self.ready = False
