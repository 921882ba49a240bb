"""Mouse and keyboard through the published Python SDKs, sync and async, against a real server."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from daytona import (
    AsyncDaytona,  # noqa: F401 -- imported first: the package loads its parts lazily
    CreateSandboxFromSnapshotParams,
    DaytonaError,
)

from tests.sdk.clients import Sdk, scenario


@pytest.fixture(scope="module")
def desk(sdk: Sdk) -> Iterator[Any]:
    """Return the computer use of a sandbox, which these tests share."""
    box = sdk.run(sdk.daytona.create(CreateSandboxFromSnapshotParams(name=f"input-{sdk.name}")))
    with suppress(DaytonaError):  # whether its answer is right is not the matter here
        sdk.run(box.computer_use.start())
    yield box.computer_use
    sdk.run(box.delete(wait=True))


@scenario
async def test_mouse(sdk: Sdk, desk: Any) -> None:
    mouse = desk.mouse
    moved = await mouse.move(100, 200)
    position = await mouse.get_position()
    assert (moved.x, moved.y) == (position.x, position.y) == (100, 200)
    clicked = await mouse.click(50, 60)
    assert (clicked.x, clicked.y) == (50, 60)
    await mouse.click(50, 60, "right", double=True)
    await mouse.click(50, 60, clicks=3, modifiers=["ctrl", "shift"])
    dragged = await mouse.drag(10, 10, 60, 70, modifiers=["alt"])
    assert (dragged.x, dragged.y) == (60, 70)
    for direction in ("up", "down", "left", "right"):
        assert await mouse.scroll(5, 6, direction, 2, modifiers=["ctrl"]) is True
    down = await mouse.down(20, 30)
    up = await mouse.up()
    assert (down.x, down.y) == (up.x, up.y) == (20, 30)


@scenario
async def test_keyboard(sdk: Sdk, desk: Any) -> None:
    keyboard = desk.keyboard
    assert await keyboard.type("Hello, World! äöü 日本語 😀\n") is None
    await keyboard.type("slow", 1)
    for key in ("enter", "Return", "Escape", "num_plus", "f13", "menu"):
        await keyboard.press(key)
    await keyboard.press("c", ["ctrl", "shift"])
    await keyboard.hotkey("ctrl + c")
    await keyboard.down("shift")
    await keyboard.up("shift")


@scenario
async def test_errors(sdk: Sdk, desk: Any) -> None:
    for call in (
        desk.mouse.click(1, 1, "center"),
        desk.mouse.click(1, 1, clicks=0),
        desk.mouse.scroll(1, 1, "in"),
        desk.mouse.down(x=1),
        desk.keyboard.type("a\tb"),
        desk.keyboard.press("enterr"),
        desk.keyboard.hotkey("ctrl+a+b"),
        desk.keyboard.down("nothing"),
    ):
        with pytest.raises(DaytonaError) as caught:
            await call
        assert caught.value.status_code == 400
