"""The windows of the desktop: listed, and changed."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from toolbox.computeruse.windows.models import DisplayInfo, WindowInfo
from toolbox.computeruse.xserver import XServer
from toolbox.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from Xlib.display import Display

    from toolbox.computeruse.windows.control import Control

REFUSED_SECONDS = 2.0
"""After so long without any effect a change counts as refused."""
SETTLED_SECONDS = 0.15
"""So long after its last change a window is taken for what it stays: not as asked, by a rule of its own."""
LOOK_SECONDS = 0.004
_MAX_WINDOW_ID = 2**32 - 1


class Windows:
    """Reads and changes windows through the kept connection. All raise `DesktopUnavailable`.

    A change is a request to the window manager, or to the X server if there is none. It is waited for by looking at
    the window again and again, so that the connection is free for others meanwhile.
    """

    def __init__(self, xserver: XServer) -> None:
        self._xserver = xserver

    async def displays(self) -> list[DisplayInfo]:
        """Return the monitors, at least one."""
        return await self._xserver.run(_displays)

    async def all(self) -> list[WindowInfo]:
        """Return all windows, the lowest first."""
        return await self._xserver.run(_all)

    async def focus(self, window_id: int) -> WindowInfo:
        """Give a window the keyboard, and return its new state. Raises `NotFound`."""
        await self._control(window_id, lambda control: control.focus())
        return await self._changed(window_id, lambda window: window.is_active)

    async def minimize(self, window_id: int) -> WindowInfo:
        """Hide a window, and return its new state. Raises `NotFound`."""
        await self._control(window_id, lambda control: control.minimize())
        return await self._changed(window_id, lambda window: window.minimized)

    async def maximize(self, window_id: int) -> WindowInfo:
        """Let a window fill the screen, and return its new state. Raises `NotFound`."""
        await self._control(window_id, lambda control: control.maximize())
        return await self._changed(window_id, lambda window: window.maximized)

    async def move(self, window_id: int, x: int, y: int) -> WindowInfo:
        """Move a window's content to a place in pixels, and return its new state. Raises `NotFound`."""
        before = await self._control(window_id, lambda control: control.place(x=x, y=y))
        return await self._changed(window_id, lambda window: (window.x, window.y) == (x, y), before)

    async def resize(self, window_id: int, width: int, height: int) -> WindowInfo:
        """Resize a window's content to pixels, and return its new state. Raises `NotFound`."""
        before = await self._control(window_id, lambda control: control.place(width=width, height=height))
        return await self._changed(window_id, lambda window: (window.width, window.height) == (width, height), before)

    async def close(self, window_id: int, *, force: bool = False) -> bool:
        """Ask a window to close, or cut its program off; tell whether it has gone. Raises `NotFound`."""
        await self._control(window_id, lambda control: control.kill() if force else control.close())
        return await self._watch(window_id, lambda _: False) is None

    async def _control(self, window_id: int, act: "Callable[[Control], None]") -> WindowInfo:
        """Have something done with a window, and return what it was before."""
        if not 0 < window_id <= _MAX_WINDOW_ID:
            raise BadRequest(f"invalid window id: {window_id}")

        def work(display: "Display") -> WindowInfo:
            from Xlib.error import XError  # noqa: PLC0415 -- when first used

            from toolbox.computeruse.windows.control import Control  # noqa: PLC0415

            window = _one(display, window_id)
            if window is None:
                raise _not_found(window_id)
            try:
                act(Control(display, window))
            except XError:  # it has gone this moment
                raise _not_found(window_id) from None
            return window

        return await self._xserver.run(work)

    async def _changed(
        self, window_id: int, done: Callable[[WindowInfo], bool], before: WindowInfo | None = None
    ) -> WindowInfo:
        """Return the window's new state. Raises `NotFound` when it has gone meanwhile."""
        window = await self._watch(window_id, done, before)
        if window is None:
            raise _not_found(window_id)
        return window

    async def _watch(
        self, window_id: int, done: Callable[[WindowInfo], bool], before: WindowInfo | None = None
    ) -> WindowInfo | None:
        """Return the window once it is `done` in two looks, or nothing happens; None if it has gone.

        With its state `before`, it may also have become something else and stay so.
        """
        loop = asyncio.get_running_loop()
        last, give_up = before, loop.time() + REFUSED_SECONDS
        while True:
            window = await self._xserver.run(lambda display: _one(display, window_id))
            if window is None or (window == last and done(window)) or loop.time() > give_up:
                return window
            if before is not None and window != last:
                give_up = loop.time() + SETTLED_SECONDS
            last = window
            await asyncio.sleep(LOOK_SECONDS)


def _not_found(window_id: int) -> NotFound:
    return NotFound(f"window not found: {window_id}")


def _displays(display: "Display") -> list[DisplayInfo]:
    from toolbox.computeruse.windows import monitors  # noqa: PLC0415 -- has Xlib

    return monitors.displays(display)


def _all(display: "Display") -> list[WindowInfo]:
    from toolbox.computeruse.windows import ewmh  # noqa: PLC0415

    return ewmh.windows(display)


def _one(display: "Display", window_id: int) -> WindowInfo | None:
    from toolbox.computeruse.windows import ewmh  # noqa: PLC0415

    return next(iter(ewmh.windows(display, window_id)), None)
