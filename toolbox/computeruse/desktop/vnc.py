"""The desktop by VNC, as noVNC sees it: its files, the page, and the bytes of x11vnc."""

import asyncio
from pathlib import Path

from toolbox.computeruse.desktop import runtime
from toolbox.computeruse.desktop.desktop import Desktop
from toolbox.computeruse.desktop.programs import NOVNC, X11vnc
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.errors import NotFound


def _x11vnc(desktop: Desktop) -> X11vnc:
    x11vnc = desktop.run.x11vnc
    if x11vnc is None:
        raise DesktopUnavailable("this desktop has no VNC: the option `desktop` is none")
    return x11vnc


async def page(desktop: Desktop) -> str:
    """Return the page that connects by itself. Raises `DesktopUnavailable`."""
    return await asyncio.to_thread(runtime.render_page, NOVNC, _x11vnc(desktop).password)


def static_file(name: str) -> Path:
    """Return a file of noVNC. Blocks. Raises `NotFound`."""
    try:
        file = (NOVNC / name).resolve(strict=True)
    except (OSError, ValueError):
        raise NotFound(f"noVNC has no file {name}") from None
    if not file.is_relative_to(NOVNC.resolve()) or not file.is_file():
        raise NotFound(f"noVNC has no file {name}")
    return file


async def connect(desktop: Desktop) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to x11vnc. Raises `DesktopUnavailable`."""
    x11vnc = _x11vnc(desktop)
    try:
        return await x11vnc.connect()
    except OSError:
        raise DesktopUnavailable(x11vnc.problem or "x11vnc does not answer") from None
