"""Displays and windows, on a real X server with and without a window manager."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.computeruse.programs import eventually, list_windows, needs, openbox, program, windows, xvfb_pid
from tests.conftest import Daemon
from toolbox.children import tree

KEYS = {
    "id", "title", "x", "y", "width", "height", "isActive", "minimized", "maximized", "fullscreen", "desktop", "type",
    "class", "frame", "pid",
}  # fmt: skip
needs_openbox = needs("openbox")


@pytest.fixture
async def managed(bare: Daemon, tmp_path: Path) -> AsyncIterator[Daemon]:
    """Run a daemon whose desktop has a window manager."""
    async with openbox(tmp_path):
        yield bare


@pytest.fixture(params=["bare", pytest.param("openbox", marks=needs_openbox)])
async def desktop(request: pytest.FixtureRequest, bare: Daemon, tmp_path: Path) -> AsyncIterator[Daemon]:
    """Run a daemon whose desktop has no window manager, and one that has."""
    async with nullcontext() if request.param == "bare" else openbox(tmp_path):
        yield bare


async def act(daemon: Daemon, window_id: object, action: str, status: int = 200, **body: object) -> Any:
    """Change a window."""
    path = f"/computeruse/display/windows/{window_id}/{action}"
    async with daemon.http.post(path, json=body) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_monitors(bare: Daemon) -> None:
    async with bare.http.get("/computeruse/display/info") as response:
        assert response.status == 200
        info = await response.json()
    screen = {"id": 0, "x": 0, "y": 0, "width": 1280, "height": 720, "isActive": True, "isPrimary": True}
    assert info == {
        "displays": [{**screen, "name": "screen"}],
        "primary_display": {**screen, "name": "screen"},
        "total_displays": 1,
    }


async def test_an_empty_desktop(desktop: Daemon) -> None:
    assert await list_windows(desktop) == {}


async def test_what_is_told_of_a_window(desktop: Daemon) -> None:
    title = "Übersicht: 日本語 😀"
    async with windows({"title": title, "x": 50, "y": 80, "width": 321, "height": 123, "class": "Probe"}) as (
        process,
        [window_id],
    ):
        window = (await eventually(desktop, lambda listed: window_id in listed))[window_id]
        assert set(window) == KEYS
        told = {key: window[key] for key in ("title", "width", "height", "class", "type", "pid", "desktop")}
        assert told == {
            "title": title, "width": 321, "height": 123, "class": "Probe", "type": "normal", "pid": process.pid,
            "desktop": 0,
        }  # fmt: skip
        # A window manager puts the frame where the window wanted to be.
        frame = window["frame"]
        assert (window["x"], window["y"]) == (50 + frame["left"], 80 + frame["top"])
        assert not any(window[state] for state in ("minimized", "maximized", "fullscreen"))


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"icccm_title": "Grüße"}, "Grüße"),
        ({"icccm_title": "old", "title": "new"}, "new"),
        ({"title": ""}, ""),
        ({}, ""),
        ({"compound_title": b"plain".hex()}, "plain"),
        ({"compound_title": (b"\xfc \x1b-L\xbf\xe0\x1b-A\xe4").hex()}, "ü Прä"),
        ({"compound_title": (b"\x1b%G" + "日本語 €".encode() + b"\x1b%@ end").hex()}, "日本語 € end"),
        (
            {"compound_title": (b"a\x1b$(B" + bytes(b & 0x7F for b in "日本".encode("euc_jp")) + b"\x1b(Bb").hex()},
            "a日本b",
        ),
        (
            {"compound_title": (b"\x1b$)C" + "한국".encode("euc_kr") + b" \x1b$)A" + "中".encode("gb2312")).hex()},
            "한국 中",
        ),
    ],
)
async def test_titles_in_every_encoding(bare: Daemon, options: dict[str, str], title: str) -> None:
    async with windows(options) as (_, [window_id]):
        assert (await list_windows(bare))[window_id]["title"] == title


async def test_types(desktop: Daemon) -> None:
    shown: list[dict[str, object]] = [{"title": "main"}, {"type": "dialog"}, {"transient_for": 0}, {"type": "utility"}]
    async with windows(*shown) as (_, ids):
        listed = await eventually(desktop, lambda listed: set(ids) <= set(listed))
        assert [listed[each]["type"] for each in ids] == ["normal", "dialog", "dialog", "utility"]


async def test_the_process_is_told_by_the_kernel(bare: Daemon) -> None:
    async with windows({"pid": 1}) as (process, [window_id]):
        assert (await list_windows(bare))[window_id]["pid"] == process.pid


async def test_fifty_windows(desktop: Daemon) -> None:
    shown = [{"title": f"window {number}", "width": 100 + number} for number in range(50)]
    async with windows(*shown) as (_, ids):
        listed = await eventually(desktop, lambda listed: set(ids) <= set(listed))
        assert [listed[each]["title"] for each in ids] == [each["title"] for each in shown]
        assert [listed[each]["width"] for each in ids] == [each["width"] for each in shown]


async def test_focus(desktop: Daemon) -> None:
    async with windows({"title": "one"}, {"title": "two"}) as (_, ids):
        await eventually(desktop, lambda listed: set(ids) <= set(listed))
        for window_id in (*ids, *ids):
            window = await act(desktop, window_id, "focus")
            assert window["isActive"]
            listed = await list_windows(desktop)
            assert [each for each in listed if listed[each]["isActive"]] == [window_id]
            assert list(listed)[-1] == window_id  # on top


async def test_move_and_resize_are_exact(desktop: Daemon) -> None:
    async with windows({"title": "one"}) as (_, [window_id]):
        await eventually(desktop, lambda listed: window_id in listed)
        for x, y in ((200, 150), (0, 40), (500, 333), (500, 333)):
            window = await act(desktop, window_id, "move", x=x, y=y)
            assert (window["x"], window["y"]) == (x, y)
            assert (window["width"], window["height"]) == (200, 100)
        for width, height in ((300, 200), (51, 52), (640, 240)):
            window = await act(desktop, window_id, "resize", width=width, height=height)
            assert (window["width"], window["height"]) == (width, height)
            assert (window["x"], window["y"]) == (500, 333)
        assert (await list_windows(desktop))[window_id] == window


async def test_minimize_and_back(desktop: Daemon) -> None:
    async with windows({"title": "one"}, {"title": "two"}) as (_, [one, two]):
        await eventually(desktop, lambda listed: {one, two} <= set(listed))
        window = await act(desktop, one, "minimize")
        assert window["minimized"]
        assert not window["isActive"]
        assert (await list_windows(desktop))[one]["minimized"]
        window = await act(desktop, one, "focus")
        assert window["isActive"]
        assert not window["minimized"]
        assert not (await list_windows(desktop))[two]["minimized"]


async def test_maximize_and_back(desktop: Daemon) -> None:
    async with windows({"title": "one"}) as (_, [window_id]):
        await eventually(desktop, lambda listed: window_id in listed)
        assert (await act(desktop, window_id, "maximize"))["maximized"]

        def fills(listed: dict[int, Any]) -> bool:
            window, frame = listed[window_id], listed[window_id]["frame"]
            outer = window["width"] + frame["left"] + frame["right"], window["height"] + frame["top"] + frame["bottom"]
            return outer == (1280, 720) and (window["x"], window["y"]) == (frame["left"], frame["top"])

        await eventually(desktop, fills)
        window = await act(desktop, window_id, "resize", width=400, height=300)
        assert not window["maximized"]
        assert (window["width"], window["height"]) == (400, 300)


async def test_close(desktop: Daemon) -> None:
    async with windows({"title": "one"}, {"title": "two"}) as (process, [one, two]):
        await eventually(desktop, lambda listed: {one, two} <= set(listed))
        assert await act(desktop, one, "close") == {"closed": True}
        assert set(await list_windows(desktop)) == {two}
        assert await act(desktop, two, "close") == {"closed": True}
        assert await process.wait() == 0


async def test_close_what_refuses_and_what_cannot_be_asked(desktop: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolbox.computeruse.windows.windows.REFUSED_SECONDS", 3.0)
    async with windows({"stubborn": True}) as (process, [window_id]):
        await eventually(desktop, lambda listed: window_id in listed)
        assert await act(desktop, window_id, "close") == {"closed": False}
        assert window_id in await list_windows(desktop)
        assert await act(desktop, window_id, "close?force=true") == {"closed": True}
        assert await process.wait() == 1
    async with windows({"deaf": True}) as (process, [window_id]):
        await eventually(desktop, lambda listed: window_id in listed)
        assert await act(desktop, window_id, "close") == {"closed": True}
        assert await process.wait() == 1


async def test_what_is_no_window(desktop: Daemon) -> None:
    for action, body in (("focus", {}), ("move", {"x": 1, "y": 1}), ("close", {}), ("maximize", {})):
        assert (await act(desktop, 4711, action, 404, **body))["code"] == "NOT_FOUND"
        for bad in (0, -1, 2**32, "x", "1.5", "0x10"):
            assert (await act(desktop, bad, action, 400, **body))["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("move", {}),
        ("move", {"x": 1}),
        ("move", {"x": 40000, "y": 0}),
        ("move", {"x": "1", "y": 0}),
        ("resize", {"width": 0, "height": 10}),
        ("resize", {"width": 10, "height": 1.5}),
    ],
)
async def test_bad_bodies(bare: Daemon, action: str, body: dict[str, object]) -> None:
    async with windows({}) as (_, [window_id]):
        assert (await act(bare, window_id, action, 400, **body))["code"] == "INVALID_REQUEST_BODY"


async def test_windows_that_come_and_go_while_they_are_listed(desktop: Daemon) -> None:
    async def churn() -> None:
        for _ in range(6):
            async with windows(*[{"title": "brief"}] * 20):
                pass

    async with windows({"title": "stays"}) as (_, [window_id]):
        await eventually(desktop, lambda listed: window_id in listed)
        churning = asyncio.create_task(churn())
        while not churning.done():
            listed = await list_windows(desktop)
            assert listed[window_id]["title"] == "stays"
        await churning
        assert set(await eventually(desktop, lambda listed: len(listed) == 1)) == {window_id}


@needs_openbox
async def test_a_window_manager_that_is_killed(bare: Daemon, tmp_path: Path) -> None:
    async with windows({"title": "one"}) as (_, [window_id]):
        async with openbox(tmp_path):
            await eventually(bare, lambda listed: window_id in listed and listed[window_id]["frame"]["top"] > 0)
        window = await act(bare, window_id, "move", x=100, y=100)
        assert (window["x"], window["y"]) == (100, 100)


@needs("xfce4-terminal")
@needs_openbox
async def test_a_real_program(managed: Daemon, tmp_path: Path) -> None:
    command = ["xfce4-terminal", "--disable-server", "--title=Probe", "--dynamic-title-mode=none"]
    async with program(*command, HOME=str(tmp_path), DBUS_SESSION_BUS_ADDRESS="disabled:", NO_AT_BRIDGE="1"):
        listed = await eventually(managed, lambda listed: any(each["title"] == "Probe" for each in listed.values()))
        [window] = listed.values()
        assert window["class"] == "Xfce4-terminal"
        assert Path(f"/proc/{window['pid']}/comm").read_text() == "xfce4-terminal\n"
        moved = await act(managed, window["id"], "move", x=60, y=70)
        assert (moved["x"], moved["y"]) == (60, 70)
        resized = await act(managed, window["id"], "resize", width=501, height=402)
        # Whole characters only: the answer says what it has become.
        assert resized == (await list_windows(managed))[window["id"]]
        assert 450 < resized["width"] <= 501
        assert await act(managed, window["id"], "close") == {"closed": True}


async def test_no_desktop(daemon: Daemon) -> None:
    for method, path in (
        ("GET", "/computeruse/display/info"),
        ("GET", "/computeruse/display/windows"),
        ("POST", "/computeruse/display/windows/1/focus"),
    ):
        async with daemon.http.request(method, path) as response:
            assert response.status == 503
            answer = await response.json()
            assert (answer["code"], answer["source"]) == ("COMPUTER_USE_UNAVAILABLE", "DAYTONA_DAEMON")


async def test_an_x_server_that_dies(bare: Daemon) -> None:
    assert await list_windows(bare) == {}
    pid = xvfb_pid()
    os.kill(pid, signal.SIGKILL)
    while tree.read_stat(pid) is not None:
        async with bare.http.get("/computeruse/display/windows") as response:
            # Or there is another one already.
            assert response.status in {200, 503}, await response.text()
    async with bare.http.post("/computeruse/start") as response:
        assert response.status == 200
    async with windows({"title": "again"}) as (_, [window_id]):
        assert (await list_windows(bare))[window_id]["title"] == "again"
