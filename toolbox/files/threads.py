"""The threads in which files are touched, so that no disk ever blocks the event loop."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self, TypeVar, TypeVarTuple

from toolbox.files.identity import Identity
from toolbox.threads import ThreadPool

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class FileThreads:
    """A few threads, all of which act as `identity` where one is given."""

    def __init__(self, identity: Identity | None = None, *, size: int = 16) -> None:
        self._pool = ThreadPool(size, "files", initializer=identity.assume if identity else None)

    def start(self, function: Callable[[*Ts], T], *arguments: *Ts) -> asyncio.Future[T]:
        """Run `function` in a thread, beside the caller. The future is to be given to `settle`."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def settle(self, future: asyncio.Future[T]) -> T:
        """Return the outcome of `start`.

        A caller that is cancelled still waits: what runs in a thread cannot be stopped, and it must not go on behind
        the back of the clean-up that follows.
        """
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # looked at, so that it is not reported as forgotten
            raise

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run `function` in a thread and return its outcome; see `settle` for cancellation."""
        return await self.settle(self.start(function, *arguments))

    async def __aenter__(self) -> Self:
        await self.run(int)  # an identity that cannot be assumed shows here, not at the first request
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._pool.shutdown)
