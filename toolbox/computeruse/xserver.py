"""The X server as the daemon sees it: one connection that is kept, used in one thread."""

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from toolbox.computeruse.errors import DesktopUnavailable

if TYPE_CHECKING:
    from Xlib.display import Display

T = TypeVar("T")

ANSWER_SECONDS = 10.0
"""How long the X server may take for one piece of work before the connection is given up."""
_SOCKETS = "/tmp/.X11-unix/X"  # noqa: S108 -- where X servers listen


class XServer:
    """Runs work with a connection to the X server of `display()`, one piece after another.

    A lost connection fails the work that meets it and is made anew for the next.
    """

    def __init__(self, display: Callable[[], str]) -> None:
        self._display = display
        """Returns the name of the display. Raises `DesktopUnavailable`."""
        self._connection: Any = None
        self._name = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="x server")

    async def run(self, work: Callable[["Display"], T], *, seconds: float = ANSWER_SECONDS) -> T:
        """Run `work` in the connection's thread and return what it returns.

        Raises `DesktopUnavailable` when there is no X server, when it goes away meanwhile, or takes longer than
        `seconds`. X errors of the work itself (`Xlib.error.XError`) pass through: the work knows what they mean.
        """
        name = self._display()
        future = asyncio.get_running_loop().run_in_executor(self._thread, partial(self._work, name, work))
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_forget)  # nobody is there to be told
            raise
        except TimeoutError:
            self.disconnect()  # ends the wait in the thread
            # Not waited for: an X server that hangs does not let a new connection be made either, nor given up.
            future.add_done_callback(_forget)
            raise DesktopUnavailable(f"the X server does not answer for {seconds:.0f} s") from None

    async def screen_size(self) -> tuple[int, int]:
        """Return the width and height of the screen, in pixels. Raises `DesktopUnavailable`."""
        root = await self.run(lambda display: display.screen().root.get_geometry())
        return root.width, root.height

    async def server_pid(self) -> int:
        """Return the process id of the X server. Raises `DesktopUnavailable`."""
        return await self.run(_peer)

    def _work(self, name: str, work: Callable[["Display"], T]) -> T:
        from Xlib import error  # noqa: PLC0415 -- when first used

        try:
            return work(self._connect(name))
        except (error.ConnectionClosedError, error.DisplayConnectionError, error.DisplayNameError, OSError) as lost:
            self._close()
            raise DesktopUnavailable(f"the X server of {name} cannot be reached: {lost}") from None

    def _connect(self, name: str) -> "Display":
        from Xlib.display import Display  # noqa: PLC0415

        if self._connection is None or self._name != name or self._lost():
            self._close()
            # Where nobody listens, Display would leave its sockets to the garbage collector.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(f"{_SOCKETS}{name.removeprefix(':')}")
            self._connection, self._name = Display(name), name
        return self._connection  # type: ignore[no-any-return]

    def _lost(self) -> bool:
        """Tell whether the server of the kept connection has gone; another one may have its name by now."""
        poll = select.poll()
        try:
            # Not by reading: events that nobody read may lie before the end.
            poll.register(self._connection.display.socket, select.POLLRDHUP)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):  # it may be gone already, in any state
                self._connection.close()
            self._connection = None

    def disconnect(self) -> None:
        """End the connection, whatever is waiting on it."""
        self._name = ""  # the next server may have the same name
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.display.socket.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """End the connection and the thread."""
        self.disconnect()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)


def _forget(future: "asyncio.Future[Any]") -> None:
    """Take note of how it ended: an error nobody looks at would be logged."""
    if not future.cancelled():
        future.exception()


def _peer(display: "Display") -> int:
    credentials = display.display.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)
