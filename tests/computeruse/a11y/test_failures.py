"""Without a desktop, without a bus, and with programs that die or hang."""

import asyncio
import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.computeruse.a11y.conftest import Accessible, eventually
from tests.conftest import Daemon
from toolbox.computeruse.a11y import bus
from toolbox.computeruse.a11y.accessibility import Accessibility
from toolbox.computeruse.a11y.errors import AccessibilityUnavailable
from toolbox.computeruse.xserver import XServer

NODE = {"id": ":1.2:/org/a11y/atspi/accessible/1"}
CALLS = [("tree", None), ("find", {}), ("node/focus", NODE), ("node/invoke", NODE), ("node/value", NODE)]


async def unavailable(daemon: Daemon) -> None:
    for path, body in CALLS:
        method = "GET" if body is None else "POST"
        async with daemon.http.request(method, f"/computeruse/a11y/{path}", json=body) as response:
            answer = await response.json()
            assert (response.status, answer["code"]) == (503, "A11Y_UNAVAILABLE"), answer
            assert answer["source"] == "DAYTONA_DAEMON"


async def test_no_desktop(daemon: Daemon) -> None:
    await unavailable(daemon)


async def test_no_session_bus() -> None:
    for address in ("", "unix:path=/no/such/socket", "nonsense", "tcp:host=127.0.0.1,port=1"):
        async with Accessibility(partial(str, address), XServer(lambda: ":0")) as accessibility:
            with pytest.raises(AccessibilityUnavailable):
                await accessibility.tree("all", 0, 0)


async def test_the_desktop_stops_and_starts(accessible: Accessible, mousepad: int) -> None:
    await accessible.tree()
    for action in ("stop", "start"):
        async with accessible.daemon.http.post(f"/computeruse/{action}") as response:
            assert response.status == 200
        if action == "stop":
            await unavailable(accessible.daemon)


async def test_codes(accessible: Accessible) -> None:
    for path, status, code in (
        ("tree?scope=xx", 400, "A11Y_INVALID_SCOPE"),
        ("tree?scope=pid", 400, "A11Y_INVALID_REQUEST"),
        ("tree?scope=pid&pid=abc", 400, "BAD_REQUEST"),
        ("tree?scope=all&maxDepth=abc", 400, "BAD_REQUEST"),
        ("tree?scope=pid&pid=1", 404, "A11Y_NO_ACCESSIBLE_ROOT"),
        ("tree?scope=focused", 404, "A11Y_NO_ACCESSIBLE_ROOT"),
        ("find", 400, "INVALID_REQUEST_BODY"),
    ):
        got, answer = await accessible.answer(path)
        assert (got, answer["code"], answer["source"]) == (status, code, "DAYTONA_DAEMON"), answer


async def test_a_desktop_without_programs(accessible: Accessible) -> None:
    assert (await accessible.tree())["children"] == []


async def test_a_program_is_killed_during_the_walk(accessible: Accessible, mousepad: int) -> None:
    await accessible.start("xfce4-terminal --disable-server", role="terminal")

    async def kill() -> None:
        os.kill(mousepad, signal.SIGKILL)

    walks = [accessible.answer("tree?scope=all") for _ in range(4)]
    answers, _ = await asyncio.gather(asyncio.gather(*walks), kill())
    assert [(status, answer["truncated"]) for status, answer in answers] == [(200, False)] * 4

    async def gone() -> bool:
        return [program["name"] for program in (await accessible.tree())["children"]] == ["xfce4-terminal"]

    await eventually(gone)
    status, answer = await accessible.answer(f"tree?scope=pid&pid={mousepad}")
    assert (status, answer["code"]) == (404, "A11Y_NO_ACCESSIBLE_ROOT")


async def test_a_hung_program_holds_up_nothing(
    accessible: Accessible, mousepad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "CALL_SECONDS", 5.0)
    await accessible.start("xfce4-terminal --disable-server", role="terminal")
    (text,) = await accessible.find(role="text")
    os.kill(mousepad, signal.SIGSTOP)
    for _ in range(2):
        status, answer = await accessible.answer("tree?scope=all")
        assert (status, answer["truncated"]) == (200, True)
        assert [program["name"] for program in answer["root"]["children"]] == ["xfce4-terminal"]
    status, answer = await accessible.answer("find", scope="all", role="terminal")
    assert (status, answer["truncated"], len(answer["matches"])) == (200, True, 1)
    for path, body in ((f"tree?scope=pid&pid={mousepad}", {}), ("node/focus", {"id": text["id"]})):
        status, answer = await accessible.answer(path, **body)
        assert (status, answer["code"]) == (503, "A11Y_UNAVAILABLE")
    os.kill(mousepad, signal.SIGCONT)

    async def back() -> bool:
        status, answer = await accessible.answer("tree?scope=all")
        return status == 200 and not answer["truncated"]

    await eventually(back)
    assert {program["name"] for program in (await accessible.tree())["children"]} == {"xfce4-terminal", "mousepad"}


async def test_the_bus_dies(accessible: Accessible, mousepad: int) -> None:
    await accessible.tree()
    os.kill(await asyncio.to_thread(accessibility_bus, accessible.display), signal.SIGKILL)

    async def noticed() -> bool:
        status, answer = await accessible.answer("tree?scope=all")
        assert status == 200 or answer["code"] == "A11Y_UNAVAILABLE", answer
        return status == 503 or answer["root"]["children"] == []

    await eventually(noticed)


def accessibility_bus(display: str) -> int:
    """Return the process of a desktop's accessibility bus."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"accessibility.conf" in (process / "cmdline").read_bytes() and f"DISPLAY={display}".encode() in (
                process / "environ"
            ).read_bytes().split(b"\0"):
                return int(process.name)
    raise AssertionError("no accessibility bus")
