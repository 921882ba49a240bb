"""What tests of the desktop ask of the daemon, and look at on the screen."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from Xlib import X
from Xlib.display import Display

from tests.conftest import Daemon


async def post(daemon: Daemon, action: str, status: int = 200, **body: Any) -> Any:
    async with daemon.http.post(f"/computeruse/{action}", json=body) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def get(daemon: Daemon, what: str, status: int = 200) -> Any:
    async with daemon.http.get(f"/computeruse/{what}") as response:
        assert response.status == status, await response.text()
        return await response.json()


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(60):
        while not (value := await condition()):
            await asyncio.sleep(0.02)
        return value


def geometry(name: str) -> tuple[int, int]:
    display = Display(name)
    try:
        found = display.screen().root.get_geometry()
        return found.width, found.height
    finally:
        display.close()


def color(name: str, x: int, y: int) -> tuple[int, ...]:
    display = Display(name)
    try:
        blue, green, red, _ = display.screen().root.get_image(x, y, 1, 1, X.ZPixmap, 0xFFFFFFFF).data
        return red, green, blue
    finally:
        display.close()
