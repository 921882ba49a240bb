"""Without a desktop, with one that dies, with clients that go away: nothing stays pressed."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.computeruse.input.conftest import KINDS, Hands, Observer
from tests.computeruse.programs import display_name, xvfb_pid
from tests.conftest import Daemon
from toolbox.children import tree
from toolbox.children.environment import Environment
from toolbox.children.process import Children
from toolbox.computeruse.desktop.desktop import Desktop
from toolbox.computeruse.input.input import Input
from toolbox.config import ServeConfig

POSITION = "/computeruse/mouse/position"
B = 56
"""The keycode of the letter."""
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("mouse/move", {"x": 1, "y": 1}),
    ("mouse/move", {"x": 1, "y": 1, "smooth": 50}),
    ("mouse/click", {"x": 1, "y": 1, "modifiers": ["ctrl"]}),
    ("mouse/drag", {"endX": 100, "endY": 100}),
    ("mouse/scroll", {"direction": "up"}),
    ("mouse/down", {}),
    ("mouse/up", {}),
    ("keyboard/type", {"text": "text"}),
    ("keyboard/type", {"text": "日本"}),
    ("keyboard/key", {"key": "f13"}),
    ("keyboard/hotkey", {"keys": "ctrl+c"}),
    ("keyboard/down", {"key": "a"}),
    ("keyboard/up", {"key": "a"}),
]


async def leave(bare: Daemon, route: str, seconds: float, **body: Any) -> None:
    """Begin a call and go away."""
    call = asyncio.create_task(Hands(bare)(route, **body))
    await asyncio.sleep(seconds)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call


async def revive(bare: Daemon) -> None:
    """Start the desktop until there is one: the daemon learns of the end of the last one a moment later."""
    async with asyncio.timeout(20):
        while True:
            async with bare.http.post("/computeruse/start") as started, bare.http.get(POSITION) as position:
                if (started.status, position.status) == (200, 200):
                    return
            await asyncio.sleep(0.01)


async def nothing_pressed(observer: Observer) -> None:
    """Wait until nothing is: the daemon learns of a client that left a moment later."""
    async with asyncio.timeout(20):
        while observer.pressed() != ([], 0):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("route", "body"), CALLS)
async def test_without_a_desktop(daemon: Daemon, route: str, body: dict[str, Any]) -> None:
    answer = await Hands(daemon)(route, 503, **body)
    assert answer["code"] == "COMPUTER_USE_UNAVAILABLE"
    async with daemon.http.get("/computeruse/mouse/position") as response:
        assert response.status == 503


@pytest.mark.parametrize(("route", "body"), CALLS)
async def test_a_desktop_that_dies_between_calls(bare: Daemon, hands: Hands, route: str, body: dict[str, Any]) -> None:
    await hands("mouse/move", x=5, y=5)
    pid = xvfb_pid()
    os.kill(pid, signal.SIGKILL)
    while (stat := tree.read_stat(pid)) is not None and stat.state not in "ZX":
        await asyncio.sleep(0.001)
    await hands(route, 503, **body)
    await revive(bare)
    await hands(route, **body)
    watching = Observer(display_name())
    await hands("mouse/up")
    await hands("keyboard/up", key="a")
    assert watching.pressed() == ([], 0)
    watching.close()


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("mouse/move", {"x": 1000, "y": 1, "smooth": 10000}),
        ("mouse/drag", {"endX": 500, "modifiers": ["shift"]}),
        ("keyboard/type", {"text": "日本" * 50_000, "delay": 1}),
        ("keyboard/type", {"text": "x" * 50_000, "delay": 1}),
    ],
)
async def test_a_desktop_that_dies_during_a_call(bare: Daemon, hands: Hands, route: str, body: dict[str, Any]) -> None:
    await hands("keyboard/down", key="ctrl")
    call = asyncio.create_task(hands(route, 503, **body))
    await asyncio.sleep(0.05)
    os.kill(xvfb_pid(), signal.SIGKILL)
    assert (await call)["code"] == "COMPUTER_USE_UNAVAILABLE"
    await revive(bare)
    assert await hands("mouse/move", x=9, y=9) == {"x": 9, "y": 9}
    watching = Observer(display_name())
    assert watching.pressed() == ([], 0)
    assert 0x1008FF1D in sum(watching.keyboard(), ())
    watching.close()


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.05, 0.12])
async def test_a_client_that_goes_away_during_a_drag(bare: Daemon, observer: Observer, seconds: float) -> None:
    await leave(bare, "mouse/drag", seconds, startX=1, endX=500, modifiers=["shift", "ctrl"])
    await nothing_pressed(observer)
    assert await Hands(bare)("mouse/click", x=3, y=3) == {"x": 3, "y": 3}


@pytest.mark.parametrize("text", ["x" * 40_000, "Aa日本語😀" * 8_000])
@pytest.mark.parametrize("delay", [0, 2])
async def test_a_client_that_goes_away_while_text_is_typed(
    bare: Daemon, observer: Observer, text: str, delay: int
) -> None:
    before = observer.keyboard()
    await leave(bare, "keyboard/type", 0.1, text=text, delay=delay)
    await Hands(bare)("keyboard/type", text="b")  # after the end of the other
    async with asyncio.timeout(20):
        while observer.keyboard() != before:
            await asyncio.sleep(0.01)
    assert observer.pressed() == ([], 0)
    keys = [event for event in observer.events() if event.type in KINDS]
    assert keys[-1].detail == B
    assert len(keys) < len(text)


async def test_others_get_their_turn_while_text_is_typed(hands: Hands, observer: Observer) -> None:
    typing = asyncio.create_task(hands("keyboard/type", text="x" * 300, delay=10))
    await asyncio.sleep(0.05)
    await hands("mouse/move", x=44, y=55)
    await hands("keyboard/key", key="escape")
    assert not typing.done()
    typing.cancel()
    with suppress(asyncio.CancelledError):
        await typing
    kinds = [each.kind if each.kind == "move" else each.keysym for each in observer.read()]
    assert {"move", 0xFF1B, 0x78} <= set(kinds)


async def test_stopping_the_desktop_ends_what_is_typed_and_releases_what_is_held(bare: Daemon, hands: Hands) -> None:
    await hands("keyboard/down", key="ctrl")
    await hands("keyboard/down", key="f13")
    await hands("mouse/down")
    typing = asyncio.create_task(hands("keyboard/type", 503, text="日本" * 5000, delay=5))
    await asyncio.sleep(0.05)
    async with bare.http.post("/computeruse/stop") as response:
        assert response.status == 200
    await typing
    async with bare.http.post("/computeruse/start") as response:
        assert response.status == 200
    await hands("mouse/up")
    await hands("keyboard/type", text="a")


async def test_all_that_is_held_can_be_released(serve_config: Callable[..., ServeConfig]) -> None:
    children, environment = Children(), Environment(Path("/"))
    async with children, Desktop(children, environment, serve_config(desktop="none"), Path("/")) as desktop:
        async with Input(desktop) as user_input:
            await desktop.start()
            observer = Observer(desktop.display)
            before = observer.keyboard()
            for key in ("ctrl", "f13", "!"):
                await user_input.key(key, down=True)
            for button in ("left", "right"):
                await user_input.button(button, 4, 4, down=True)
            assert len(observer.pressed()[0]) == 4
            await user_input.release_all()
            assert observer.pressed() == ([], 0)
            assert observer.keyboard() == before
            observer.close()
