"""The desktop's life, with the real programs."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from Xlib.display import Display

from tests.computeruse.desktops import color, geometry, get, post, until
from tests.conftest import Daemon, Toolboxd, run_daemon
from toolbox.children import tree
from toolbox.computeruse.desktop import ewmh
from toolbox.config import ServeConfig

NAMES = {"xvfb", "xfce4", "atspi", "x11vnc", "novnc"}


def pids(answer: Any) -> dict[str, int | None]:
    return {name: process["pid"] for name, process in answer["status"].items()}


def processes_with(text: str) -> list[str]:
    """Return the command lines of the processes whose environment holds `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


async def bus_of(daemon: Daemon) -> str:
    result = str((await daemon.execute("echo $DBUS_SESSION_BUS_ADDRESS"))["result"]).strip()
    return result.removeprefix("unix:path=")


async def test_a_life(make_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(make_config()) as daemon:
        assert await get(daemon, "status") == {"status": "inactive"} | dict.fromkeys(
            ("display", "resolution", "vncPort", "noVncPort")
        )
        assert (await get(daemon, "process/xvfb/status"))["running"] is False
        for _ in range(2):
            answer = await post(daemon, "start")
            assert answer["message"] == "Computer use processes started successfully"
            assert answer["status"].keys() == NAMES
            for process in answer["status"].values():
                assert process["running"] is process["Running"] is True
                assert process["pid"] == process["Pid"]
                assert (process["priority"], process["autoRestart"]) == (process["Priority"], process["AutoRestart"])
                os.kill(process["pid"], 0)
            assert pids(await post(daemon, "start")) == pids(answer)
            for path in ("status", "process-status"):
                assert (await get(daemon, path))["status"] == "active"
            assert (await get(daemon, "process/novnc/status"))["running"] is True
            printed = str(
                (await daemon.execute("echo $DISPLAY $NO_AT_BRIDGE $QT_ACCESSIBILITY $GTK_MODULES"))["result"]
            )
            assert printed.split() == [answer["display"], "0", "1", "gail:atk-bridge"]
            bus = await bus_of(daemon)
            assert processes_with(bus)
            stopped = await post(daemon, "stop")
            assert stopped["message"] == "Computer use processes stopped successfully"
            assert set(pids(stopped).values()) == {None}
            assert (await get(daemon, "status"))["status"] == "inactive"
            assert (await daemon.execute("echo $DISPLAY $DBUS_SESSION_BUS_ADDRESS $GTK_MODULES"))["result"] == "\n"
            assert processes_with(bus) == []
            assert not Path(bus).parent.exists()


async def test_xfce_comes_up_without_questions(make_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(make_config(desktop="xfce4", resolution="1280x720")) as daemon:
        await check_xfce(daemon, (1280, 720))


@pytest.mark.skipif(os.getuid() != 0, reason="not possible here: acting as another user needs root")
async def test_xfce_as_the_workload_user(make_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    config = make_config(desktop="xfce4", resolution="1280x720", user="nobody")
    shutil.chown(config.work_dir, "nobody")
    for above in (tmp_path, *tmp_path.parents):
        if "pytest" in str(above):
            above.chmod(0o755)
    async with run_daemon(config) as daemon:
        await check_xfce(daemon, (1280, 720))


async def check_xfce(daemon: Daemon, size: tuple[int, int]) -> None:
    answer = await post(daemon, "start")
    name = answer["display"]
    assert await asyncio.to_thread(window_types, name) == ["DESKTOP", "DOCK"]
    assert await asyncio.to_thread(color, name, 400, 400) == (0x2E, 0x34, 0x40)
    assert await asyncio.to_thread(color, name, 400, 10) != (0x2E, 0x34, 0x40), "no panel"
    await post(daemon, "resize", width=1024, height=768)
    await until(lambda: asyncio.to_thread(lambda: work_area(name)[2] == 1024))
    bus = await bus_of(daemon)
    running = " ".join(processes_with(bus))
    assert "xfwm4" in running
    for unwanted in ("screensaver", "power-manager", "ssh-agent", "gpg-agent"):
        assert unwanted not in running
    session = answer["status"]["xfce4"]["pid"]
    assert Path(f"/tmp/.ICE-unix/{session}").exists()
    await post(daemon, "stop")
    assert processes_with(bus) == []
    assert not Path(f"/tmp/.ICE-unix/{session}").exists()
    assert not [note for note in Path("/tmp").glob(".xfsm-ICE-*") if f".ICE-unix/{session}" in text_of(note)]


def text_of(path: Path) -> str:
    """Return what a file holds; nothing when it has gone, with another test's desktop."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def window_types(name: str) -> list[str]:
    """Return the types of all managed windows; a dialog would be one more."""
    display = Display(name)
    try:
        root = display.screen().root
        found = []
        for window in ewmh._value(display, root, "_NET_CLIENT_LIST"):
            resource = display.create_resource_object("window", window)
            types = ewmh._value(display, resource, "_NET_WM_WINDOW_TYPE")
            found += [display.get_atom_name(each).removeprefix("_NET_WM_WINDOW_TYPE_") for each in types]
        return sorted(found)
    finally:
        display.close()


def work_area(name: str) -> list[int]:
    display = Display(name)
    try:
        return ewmh._value(display, display.screen().root, "_NET_WORKAREA")
    finally:
        display.close()


@pytest.mark.parametrize("name", ["xvfb", "dbus", "xfce4", "atspi", "x11vnc", "novnc"])
async def test_a_killed_process_comes_back(openbox: Daemon, name: str) -> None:
    pid = (await get(openbox, f"process/{name}/status"))["pid"]
    os.kill(pid, signal.SIGKILL)

    async def gone() -> bool:
        return bool((await get(openbox, f"process/{name}/status"))["pid"] != pid)

    await until(gone)
    await post(openbox, "start")
    status = await get(openbox, f"process/{name}/status")
    assert status["running"] is True
    assert status["pid"] != pid
    assert status["restarts"] >= 1
    after = await get(openbox, "status")
    assert after["status"] == "active"
    assert await asyncio.to_thread(geometry, after["display"]) == (1024, 768)


def segments_of(creator: int) -> int:
    """Return how many segments of shared memory a process has made."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return sum(line.split()[4] == str(creator) for line in lines)


@pytest.mark.parametrize("path", ["process/x11vnc/restart", "stop"])
async def test_a_killed_vnc_server_leaves_no_shared_memory(openbox: Daemon, path: str) -> None:
    pid = (await get(openbox, "process/x11vnc/status"))["pid"]
    assert segments_of(pid) > 0
    os.kill(pid, signal.SIGKILL)
    await post(openbox, path)

    async def none() -> bool:
        return segments_of(pid) == 0

    await until(none)  # those that the X server has not let go of go then


async def test_it_comes_back_by_itself(openbox: Daemon) -> None:
    before = pids(await post(openbox, "start"))
    os.kill(before["xvfb"] or 0, signal.SIGKILL)

    async def back() -> bool:
        found = [await get(openbox, f"process/{name}/status") for name in NAMES - {"novnc"}]
        return all(each["running"] and not each["problem"] and each["pid"] not in before.values() for each in found)

    await until(back)
    assert (await get(openbox, "status"))["status"] == "active"


async def test_the_x_server_dies_while_calls_run(openbox: Daemon) -> None:
    pid = (await get(openbox, "process/xvfb/status"))["pid"]

    async def resize(number: int) -> int:
        body = {"width": 800 + number, "height": 600}
        async with openbox.http.post("/computeruse/resize", json=body) as response:
            await response.read()
            return response.status

    calls = [asyncio.ensure_future(resize(number)) for number in range(50)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    os.kill(pid, signal.SIGKILL)
    assert set(await asyncio.gather(*calls)) <= {200, 503}
    while tree.read_stat(pid) is not None:  # its socket has gone before the daemon can have noticed
        await asyncio.sleep(0.01)
    await post(openbox, "start")
    await post(openbox, "resize", width=640, height=480)


async def test_a_process_is_restarted(openbox: Daemon) -> None:
    before = pids(await post(openbox, "start"))
    answer = await post(openbox, "process/x11vnc/restart")
    assert answer == {"message": "Process x11vnc restarted successfully", "processName": "x11vnc"}
    after = pids(await post(openbox, "start"))
    assert {name for name in NAMES if after[name] != before[name]} == {"x11vnc"}
    await post(openbox, "process/xvfb/restart")
    last = pids(await post(openbox, "start"))
    assert {name for name in NAMES if last[name] != after[name]} == NAMES - {"novnc"}
    assert (await get(openbox, "status"))["status"] == "active"


async def test_stop_during_start(make_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(make_config(desktop="xfce4")) as daemon:
        for seconds in (0.0, 0.05, 0.3):
            start = asyncio.ensure_future(daemon.http.post("/computeruse/start"))
            await asyncio.sleep(seconds)
            await post(daemon, "stop")
            async with await start as response:
                # A stop that comes before the start has begun stops nothing.
                assert response.status in {200, 503}
                if response.status == 503:
                    assert "stopped" in (await response.json())["message"]
            await post(daemon, "stop")
            assert (await get(daemon, "status"))["status"] == "inactive"
            assert not processes_with(f"HOME={os.environ['HOME']}\0DISPLAY")
        await post(daemon, "start")


async def test_starts_at_once_are_one(make_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(make_config()) as daemon:
        answers = await asyncio.gather(*(post(daemon, "start") for _ in range(4)))
        assert len({tuple(pids(answer).values()) for answer in answers}) == 1
        await asyncio.gather(*(post(daemon, "stop") for _ in range(4)))
        assert (await get(daemon, "status"))["status"] == "inactive"


async def test_a_client_that_leaves_does_not_stop_the_start(make_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(make_config()) as daemon:
        start = asyncio.ensure_future(daemon.http.post("/computeruse/start"))
        await until(lambda: _is_not_inactive(daemon))
        start.cancel()
        await until(lambda: _is_active(daemon))


async def _is_not_inactive(daemon: Daemon) -> bool:
    return bool((await get(daemon, "status"))["status"] != "inactive")


async def _is_active(daemon: Daemon) -> bool:
    return bool((await get(daemon, "status"))["status"] == "active")


async def test_a_missing_program_is_named(
    make_config: Callable[..., ServeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("Xvfb", "dbus-daemon", "openbox", "websockify", "bash", "sh"):
        program = shutil.which(name)
        assert program is not None, name
        (tmp_path / "bin" / name).symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    async with run_daemon(make_config()) as daemon:
        answer = await post(daemon, "start", 503)
        assert answer["details"] == "not installed: x11vnc (Debian package x11vnc)"
        assert (await get(daemon, "status"))["status"] == "inactive"


async def test_a_program_that_fails_is_named(
    make_config: Callable[..., ServeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/x11vnc"
    fake.write_text("#!/bin/sh\necho it cannot be >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    async with run_daemon(make_config()) as daemon:
        answer = await post(daemon, "start", 503)
        assert answer["details"].startswith("failed to start: [x11vnc]")
        assert "exit code 3: it cannot be" in answer["message"]
        assert (await get(daemon, "status"))["status"] == "inactive"
        assert (await get(daemon, "process/x11vnc/errors"))["errors"].startswith("it cannot be\n")
        fake.unlink()
        await post(daemon, "start")


async def test_what_others_need_fails(
    make_config: Callable[..., ServeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dbus-daemon").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    async with run_daemon(make_config()) as daemon:
        answer = await post(daemon, "start", 503)
        assert answer["details"].startswith("failed to start: [dbus]")


async def test_a_long_path_of_temporary_files(
    make_config: Callable[..., ServeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("x" * 100)
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    async with run_daemon(make_config()) as daemon:
        await post(daemon, "start")


async def test_a_port_that_is_taken(make_config: Callable[..., ServeConfig]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        taken = [each.getsockname()[1] for each in (one, other)]
        async with run_daemon(make_config(vnc_port=str(taken[0]), novnc_port=str(taken[1]))) as daemon:
            answer = await post(daemon, "start")
            assert {answer["vncPort"], answer["noVncPort"]}.isdisjoint(taken)
            for port in (answer["vncPort"], answer["noVncPort"]):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()


async def test_two_desktops_side_by_side(make_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    configs = [make_config(state_dir=str(tmp_path / name)) for name in "ab"]
    async with run_daemon(configs[0]) as one, run_daemon(configs[1]) as other:
        first, second = await asyncio.gather(post(one, "start"), post(other, "start"))
        assert first["display"] != second["display"]
        await post(one, "stop")
        assert (await get(other, "status"))["status"] == "active"
        await asyncio.to_thread(geometry, second["display"])


async def test_a_given_display(make_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    display = f":{1000 + os.getpid() % 50000}"  # where no server that takes any display comes
    async with run_daemon(make_config(display=display)) as daemon:
        assert (await post(daemon, "start"))["display"] == display
        async with run_daemon(make_config(display=display, state_dir=str(tmp_path / "other"))) as other:
            answer = await post(other, "start", 503)
            assert answer["details"].startswith("failed to start: [xvfb]")
        assert (await get(daemon, "status"))["status"] == "active"


async def test_logs(openbox: Daemon) -> None:
    answer = await get(openbox, "process/novnc/errors")
    assert answer["processName"] == "novnc"
    assert "WebSocket server settings" in answer["errors"]
    assert await get(openbox, "process/novnc/logs") == {"processName": "novnc", "logs": ""}
    await post(openbox, "stop")
    assert "WebSocket server settings" in (await get(openbox, "process/novnc/errors"))["errors"]


async def test_an_unknown_process(daemon: Daemon) -> None:
    assert (await get(daemon, "process/nope/status", 503))["details"] == "process nope not found"
    for path in ("process/nope/logs", "process/nope/errors"):
        assert (await get(daemon, path, 400))["message"] == "process nope not found"
    await post(daemon, "process/nope/restart", 400)
    await post(daemon, "process/xvfb/restart", 503)
    assert await get(daemon, "process/xvfb/logs") == {"processName": "xvfb", "logs": ""}


async def test_resize(openbox: Daemon) -> None:
    display = (await get(openbox, "status"))["display"]
    for width, height in ((1600, 900), (801, 601), (3840, 2160), (64, 64)):
        assert await post(openbox, "resize", width=width, height=height) == {"width": width, "height": height}
        assert await asyncio.to_thread(geometry, display) == (width, height)
    assert (await get(openbox, "status"))["resolution"] == "64x64"
    for width, height in ((0, 100), (-5, 100), (100, 2161), (100000, 100000)):
        await post(openbox, "resize", 400, width=width, height=height)
    await post(openbox, "resize", 400, width="x", height=3)
    # A new X server has the size that was asked for last.
    await post(openbox, "resize", width=900, height=700)
    await post(openbox, "process/xvfb/restart")
    display = (await get(openbox, "status"))["display"]
    assert await asyncio.to_thread(geometry, display) == (900, 700)
    await post(openbox, "stop")
    await post(openbox, "resize", 503, width=900, height=700)


async def test_sigterm_leaves_nothing(start_toolboxd: Callable[..., Awaitable[Toolboxd]], tmp_path: Path) -> None:
    toolboxd = await start_toolboxd(
        "serve", "--port", "0", "--desktop", "xfce4", "--vnc-port", "0", "--novnc-port", "0"
    )
    async with aiohttp.ClientSession(f"http://127.0.0.1:{await toolboxd.port()}") as http:
        async with http.post("/computeruse/start") as response:
            assert response.status == 200, await response.text()
    assert len(processes_with(f"HOME={tmp_path}\0")) > 5
    code, _ = await toolboxd.end()
    assert code == 0
    assert processes_with(f"HOME={tmp_path}\0") == []
