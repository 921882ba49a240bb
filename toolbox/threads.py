"""Threads for what would block the event loop."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads(Protocol):
    """Threads that act as the user whose files these are."""

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run `function` in a thread and return its outcome; a caller that is cancelled waits for it too."""


class ThreadPool(ThreadPoolExecutor):
    """A pool that goes on with the threads it has when the system gives it no more (a limit on processes).

    The plain one queues the work and then fails: it would be both refused and done.
    """

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise
