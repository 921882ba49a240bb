"""Looks at the sandbox's ports, and waits for one to be listened on."""

import asyncio
from collections.abc import Callable
from typing import Self

from toolbox.errors import RequestTimeout
from toolbox.lifetime import TaskSet
from toolbox.port.sockets import listening_ports

FIRST_LOOK_SECONDS = 0.005
LONGEST_SECONDS = 0.05
_SLOWER = 1.5


class Ports:
    """The sandbox's TCP ports. Nothing is looked at while nobody asks."""

    def __init__(self, look: Callable[[], set[int]] = listening_ports) -> None:
        self._look = look
        self._tasks = TaskSet()
        self._awaited: dict[int, set[asyncio.Event]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._pause = FIRST_LOOK_SECONDS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing is looked at."""
        return self._watcher is None or self._watcher.done()

    async def listening(self) -> set[int]:
        """Return the ports that are listened on now."""
        return await asyncio.to_thread(self._look)

    async def wait_until_listening(self, port: int, seconds: float) -> None:
        """Return as soon as somebody listens on `port`. Raises `RequestTimeout`."""
        if port in await self.listening():
            return
        event = asyncio.Event()
        self._awaited.setdefault(port, set()).add(event)
        self._pause = FIRST_LOOK_SECONDS
        if self.idle:
            self._watcher = self._tasks.start(self._watch(), "port watch")
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            raise RequestTimeout(f"nobody listened on port {port} within {seconds:g} s") from None
        finally:
            self._forget(port, event)

    def _forget(self, port: int, event: asyncio.Event) -> None:
        events = self._awaited.get(port, set())
        events.discard(event)
        if not events:
            self._awaited.pop(port, None)

    async def _watch(self) -> None:
        """Look, less and less often, until nobody waits: the kernel tells nobody when a port begins to listen."""
        while self._awaited:
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * _SLOWER, LONGEST_SECONDS)
            for port in self._awaited.keys() & await self.listening():
                for event in self._awaited[port]:
                    event.set()
