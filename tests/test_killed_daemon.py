"""A daemon that is killed takes all with it that it has started; the next one removes what it has left on disk."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.computeruse.programs import needs
from tests.conftest import Toolboxd
from toolbox.children import tree

StartToolboxd = Callable[..., Awaitable[Toolboxd]]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return a directory for temporary files whose path is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="killed-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def processes_of(directory: Path) -> dict[int, str]:
    """Return the command lines of the processes that have `directory` in their environment, by process."""
    found = {}
    for stat in tree.all_processes():
        place = Path(f"/proc/{stat.pid}")
        with suppress(OSError):
            if stat.state not in "ZX" and os.fsencode(directory) in (place / "environ").read_bytes():
                found[stat.pid] = (place / "cmdline").read_text().replace("\0", " ")
    return found


async def keep_busy(http: aiohttp.ClientSession, work_dir: Path) -> None:
    """Have one of everything that lives longer than a request, and programs that leave what they were started in."""

    async def post(path: str, status: int, **body: object) -> None:
        async with http.post(path, json=body) as response:
            assert response.status == status, await response.text()

    await post("/process/execute", 200, command="setsid sleep 1001 >/dev/null 2>&1 & (sleep 1002 &) >/dev/null 2>&1")
    await post("/process/session", 201, sessionId="s")
    command = "trap '' TERM HUP; echo begun > begun; while :; do sleep 1003; done"
    await post("/process/session/s/exec", 202, command=command, runAsync=True)
    await post("/process/pty", 201, id="p", cwd=str(work_dir))
    await post("/process/interpreter/context", 200)
    await post("/lsp/start", 200, languageId="python", pathToProject=str(work_dir))
    await post("/computeruse/start", 200)
    await post("/computeruse/recordings/start", 201)
    async with asyncio.timeout(30):
        while not (work_dir / "begun").exists():
            await asyncio.sleep(0.01)


async def nothing_of(directory: Path) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(processes_of, directory):
            await asyncio.sleep(0.05)


@needs("openbox")
@needs("ffmpeg")
async def test_nothing_is_left(start_toolboxd: StartToolboxd, reap_orphans: None, temporary: Path) -> None:
    environ = {"TMPDIR": str(temporary), "TOOLBOX_WORK_DIR": str(temporary), "TOOLBOX_TOKEN": "not-for-children"}
    environ |= {"TOOLBOX_VNC_PORT": "0", "TOOLBOX_NOVNC_PORT": "0", "TOOLBOX_RESOLUTION": "640x480"}
    options = ("serve", "--port", "0", "--desktop", "openbox")
    daemon = await start_toolboxd(*options, env=environ)
    url, headers = f"http://127.0.0.1:{await daemon.port()}", {"Authorization": "Bearer not-for-children"}
    async with aiohttp.ClientSession(url, headers=headers) as http:
        await keep_busy(http, temporary)
    found = await asyncio.to_thread(processes_of, temporary)
    running = " ".join(found.values())
    for name in ("sleep 1001", "sleep 1002", "sleep 1003", "Xvfb", "dbus-daemon", "x11vnc", "ffmpeg", "pylsp", "guard"):
        assert name in running, running
    guards = [pid for pid, command in found.items() if "toolboxd-guard" in command]
    for pid in guards:
        assert b"not-for-children" not in Path(f"/proc/{pid}/environ").read_bytes()
    daemon.process.kill()
    await daemon.process.wait()
    await nothing_of(temporary)
    assert list(temporary.glob("toolboxd.*/desktop-*"))
    daemon = await start_toolboxd(*options, env=environ)
    await daemon.port()
    assert await daemon.end() == (0, "")
    assert [path.name for path in temporary.iterdir() if path.name != "begun"] == []


async def test_what_belongs_to_others_stays(start_toolboxd: StartToolboxd, temporary: Path) -> None:
    """A directory of a daemon that lives, and those that only look so, are left alone."""
    environ = {"TMPDIR": str(temporary)}
    first = await start_toolboxd("serve", "--port", "0", env=environ)
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{await first.port()}") as http,
        http.post("/process/session", json={"sessionId": "s"}) as response,
    ):
        assert response.status == 201
        (temporary / "toolboxd.log").mkdir()
        (temporary / "elsewhere").mkdir()
        (temporary / "elsewhere/file").touch()
        (temporary / "toolboxd.abcdefgh").symlink_to(temporary / "elsewhere")
        state = {"TOOLBOX_STATE_DIR": str(temporary / "state")}
        second = await start_toolboxd("serve", "--port", "0", env=environ | state)
        await second.port()
        await second.end()
        async with http.post("/process/session/s/exec", json={"command": "echo there"}) as answer:
            assert "there\n" in (await answer.json())["output"]
    await first.end()
    assert sorted(path.name for path in temporary.iterdir()) == [
        "elsewhere",
        "state",
        "toolboxd.abcdefgh",
        "toolboxd.log",
    ]
    assert (temporary / "elsewhere/file").exists()
