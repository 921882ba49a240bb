"""The mouse, as a window sees it."""

import asyncio
from typing import Any

import pytest
from Xlib import X

from tests.computeruse.input.conftest import Hands, Observer, Seen
from tests.conftest import Daemon


def clicks(seen: list[Seen]) -> list[tuple[str, int, int, int]]:
    """Return kind, button and place of what happened to buttons."""
    return [(each.kind, each.detail, each.x, each.y) for each in seen if "button" in each.kind]


def pair(button: int, x: int, y: int) -> list[tuple[str, int, int, int]]:
    return [("button down", button, x, y), ("button up", button, x, y)]


async def test_moves(hands: Hands, observer: Observer) -> None:
    assert await hands("mouse/move", x=500, y=400) == {"x": 500, "y": 400}
    assert await hands.position() == (500, 400)
    assert [(each.kind, each.x, each.y) for each in observer.read()] == [("move", 500, 400)]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ((-50, -50), (0, 0)),
        ((99999, 99999), (1279, 719)),
        ((10**30, -(10**30)), (1279, 0)),
        ((32768, 65536), (1279, 719)),
    ],
)
async def test_a_place_off_the_screen_is_the_nearest_on_it(
    hands: Hands, asked: tuple[int, int], given: tuple[int, int]
) -> None:
    answer = await hands("mouse/move", x=asked[0], y=asked[1])
    assert (answer["x"], answer["y"]) == given


async def test_missing_and_null_coordinates_are_zero(hands: Hands) -> None:
    await hands("mouse/move", x=5, y=5)
    assert await hands("mouse/move") == {"x": 0, "y": 0}
    assert await hands("mouse/move", x=None, y=2, unknown="ignored") == {"x": 0, "y": 2}


async def test_moves_smoothly(hands: Hands, observer: Observer) -> None:
    await hands("mouse/move", x=0, y=0)
    observer.read()
    assert await hands("mouse/move", x=300, y=150, smooth=80) == {"x": 300, "y": 150}
    places = [(each.x, each.y) for each in observer.read()]
    assert len(places) >= 5
    assert places == sorted(places)
    assert places[-1] == (300, 150)
    assert await hands("mouse/move", x=0, y=0, smooth=True) == {"x": 0, "y": 0}


@pytest.mark.parametrize(("button", "number"), [("left", 1), (" Middle ", 2), ("RIGHT", 3), ("", 1)])
async def test_clicks(hands: Hands, observer: Observer, button: str, number: int) -> None:
    assert await hands("mouse/click", x=60, y=70, button=button) == {"x": 60, "y": 70}
    assert clicks(observer.read()) == pair(number, 60, 70)


@pytest.mark.parametrize(
    ("how", "times"),
    [({"double": True}, 2), ({"clicks": 3}, 3), ({"clicks": 1, "double": True}, 1), ({"clicks": None}, 1)],
)
async def test_clicks_several_times(hands: Hands, observer: Observer, how: dict[str, Any], times: int) -> None:
    await hands("mouse/click", x=1, y=2, **how)
    assert clicks(observer.read()) == pair(1, 1, 2) * times


async def test_modifiers_are_held_during_a_click(hands: Hands, observer: Observer) -> None:
    await hands("mouse/click", x=1, y=2, modifiers=["ctrl", "Option", "shift", "win"])
    seen = observer.read()
    assert [each.kind for each in seen if each.kind != "move"] == (
        ["key down"] * 4 + ["button down", "button up"] + ["key up"] * 4
    )
    state = X.ControlMask | X.Mod1Mask | X.ShiftMask | X.Mod4Mask
    assert {each.state & state for each in seen if each.kind == "button down"} == {state}
    assert observer.pressed() == ([], 0)


async def test_drags_without_a_click_before(hands: Hands, observer: Observer) -> None:
    answer = await hands("mouse/drag", startX=100, startY=100, endX=300, endY=200, modifiers=["shift"])
    assert answer == {"x": 300, "y": 200}
    seen = [each for each in observer.read() if "key" not in each.kind]
    assert clicks(seen) == [("button down", 1, 100, 100), ("button up", 1, 300, 200)]
    start, end = (
        next(at for at, each in enumerate(seen) if each.kind == kind) for kind in ("button down", "button up")
    )
    assert end - start >= 10
    assert all(each.state & (X.Button1Mask | X.ShiftMask) == X.Button1Mask | X.ShiftMask for each in seen[start + 1 :])
    assert observer.pressed() == ([], 0)


async def test_calls_of_the_mouse_wait_for_a_drag(hands: Hands, observer: Observer) -> None:
    drag = hands("mouse/drag", startX=10, startY=10, endX=30, endY=30)
    await asyncio.gather(drag, hands("mouse/click", x=500, y=500), hands("mouse/move", x=600, y=600))
    held = [each for each in observer.read() if each.state & X.Button1Mask and each.kind == "move"]
    assert {each.x < 40 for each in held} == {True}


@pytest.mark.parametrize(("direction", "button"), [("up", 4), ("Down", 5), ("left", 6), ("right", 7)])
async def test_scrolls(hands: Hands, observer: Observer, direction: str, button: int) -> None:
    answer = await hands("mouse/scroll", x=30, y=40, direction=direction, amount=3, modifiers=["ctrl"])
    assert answer == {"success": True}
    seen = observer.read()
    assert clicks(seen) == pair(button, 30, 40) * 3
    assert {each.state & X.ControlMask for each in seen if "button" in each.kind} == {X.ControlMask}


async def test_scrolls_once_by_default_and_as_much_as_asked(hands: Hands, observer: Observer) -> None:
    await hands("mouse/scroll", x=1, y=1, direction="up")
    await hands("mouse/scroll", x=1, y=1, direction="up", amount=0)
    assert clicks(observer.read()) == pair(4, 1, 1) * 2
    await hands("mouse/scroll", x=1, y=1, direction="down", amount=450)
    assert clicks(observer.read()) == pair(5, 1, 1) * 450


async def test_a_button_is_held_until_it_is_released(hands: Hands, observer: Observer) -> None:
    await hands("mouse/move", x=7, y=8)
    assert await hands("mouse/down", button="right") == {"x": 7, "y": 8}
    assert observer.pressed()[1] & X.Button3Mask
    assert await hands("mouse/move", x=50, y=60) == {"x": 50, "y": 60}
    assert await hands("mouse/up", x=90, y=80, button="right") == {"x": 90, "y": 80}
    assert clicks(observer.read()) == [("button down", 3, 7, 8), ("button up", 3, 90, 80)]
    assert await hands("mouse/down", x=0, y=0) == {"x": 0, "y": 0}
    await hands("mouse/down")
    await hands("mouse/up")
    await hands("mouse/up")
    assert clicks(observer.read()) == pair(1, 0, 0)


@pytest.mark.parametrize(
    ("route", "body", "text"),
    [
        ("move", {"x": 1.5, "y": 2}, "x"),
        ("move", {"x": "1", "y": 2}, "x"),
        ("move", {"x": 1, "smooth": -1}, "smooth"),
        ("move", {"x": 1, "smooth": 10001}, "smooth"),
        ("click", {"button": "center"}, "left, middle, right"),
        ("click", {"clicks": 0}, "clicks"),
        ("click", {"clicks": 11}, "clicks"),
        ("click", {"modifiers": ["hyper"]}, "ctrl, alt, shift, cmd"),
        ("click", {"modifiers": ["lctrl"]}, "left and right"),
        ("click", {"modifiers": ["ctrl", "control"]}, "duplicate"),
        ("click", {"modifiers": "ctrl"}, "modifiers"),
        ("drag", {"button": "x"}, "left, middle, right"),
        ("drag", {"modifiers": [""]}, "modifier"),
        ("scroll", {}, "up, down, left, right"),
        ("scroll", {"direction": "in"}, "up, down, left, right"),
        ("scroll", {"direction": "up", "amount": -1}, "amount"),
        ("scroll", {"direction": "up", "amount": 10001}, "amount"),
        ("scroll", {"direction": "up", "amount": "x"}, "amount"),
        ("down", {"x": 1}, "both"),
        ("up", {"y": 1}, "both"),
        ("down", {"button": "fourth"}, "left, middle, right"),
    ],
)
async def test_what_cannot_be_is_refused(
    hands: Hands, observer: Observer, route: str, body: dict[str, Any], text: str
) -> None:
    answer = await hands(f"mouse/{route}", 400, **body)
    assert text in answer["message"]
    assert observer.read() == []


@pytest.mark.parametrize("route", ["move", "click", "drag", "scroll", "down", "up"])
@pytest.mark.parametrize("body", [b"", b"{x", b"[]", b'"x"'])
async def test_a_body_that_is_no_object_is_refused(bare: Daemon, route: str, body: bytes) -> None:
    async with bare.http.post(f"/computeruse/mouse/{route}", data=body) as response:
        assert response.status == 400


async def test_many_calls_use_one_connection(hands: Hands, observer: Observer) -> None:
    await hands("mouse/move", x=1, y=1)
    before = observer.clients()
    for number in range(400):
        moves = (hands("mouse/move", x=number, y=n) for n in range(12))
        await asyncio.gather(*moves, *(hands.position() for _ in range(13)))
        observer.read()
    assert observer.clients() == before
