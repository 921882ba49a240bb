"""Programs on the desktop of a test's daemon, which runs in this process."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from Xlib.display import Display

from tests.conftest import Daemon
from toolbox.children import tree
from toolbox.computeruse.desktop.ewmh import is_answering, is_managed

WINDOWS = Path(__file__).with_name("window_program.py")


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test where a program is missing."""
    found = any((Path(place) / program).exists() for place in os.environ["PATH"].split(os.pathsep))
    return pytest.mark.skipif(not found, reason=f"not possible here: no {program}")


def xvfb_pid() -> int:
    """Return the process of the daemon's X server."""
    for pid in tree.direct_children():
        with suppress(OSError):  # one that has ended
            if Path(f"/proc/{pid}/comm").read_text() == "Xvfb\n":
                return pid
    raise AssertionError("no X server")


def display_name() -> str:
    """Return the display of the daemon's X server: by its socket."""
    for _ in range(50):
        sockets = set()
        for descriptor in Path(f"/proc/{xvfb_pid()}/fd").iterdir():
            with suppress(FileNotFoundError):  # that of a client which has gone
                sockets.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
        for line in Path("/proc/net/unix").read_text().splitlines():
            words = line.split()
            if words[6] in sockets and "/tmp/.X11-unix/X" in words[-1]:
                return ":" + words[-1].rpartition("X")[2]
        # The kernel gives that file in pieces: a line may be missing while sockets come and go elsewhere.
    raise AssertionError("the X server does not listen")


@asynccontextmanager
async def program(
    *argv: str | Path, stderr: int | None = None, **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program on the desktop; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, "DISPLAY": display_name(), **environ},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def windows(*options: dict[str, Any]) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[int]]]:
    """Run one program with these windows (see `window_program`); give it and their ids."""
    async with program(sys.executable, WINDOWS, json.dumps(options)) as process:
        assert process.stdout is not None
        yield process, json.loads(await process.stdout.readline())


@asynccontextmanager
async def openbox(home: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a window manager on the bare desktop until it manages."""
    async with program("openbox", "--sm-disable", HOME=str(home)) as process:
        async with asyncio.timeout(30):
            await asyncio.to_thread(_wait_for_manager, display_name())
        yield process


def _wait_for_manager(name: str) -> None:
    with closing(Display(name)) as display:
        while not (is_managed(display) and is_answering(display)):
            time.sleep(0.01)


async def list_windows(daemon: Daemon) -> dict[int, dict[str, Any]]:
    """Return the windows by their ids."""
    async with daemon.http.get("/computeruse/display/windows") as response:
        assert response.status == 200, await response.text()
        answer = await response.json()
    assert answer["count"] == len(answer["windows"])
    return {window["id"]: window for window in answer["windows"]}


async def eventually(daemon: Daemon, holds: Callable[[dict[int, dict[str, Any]]], bool]) -> dict[int, dict[str, Any]]:
    """Wait until something holds for the windows, and return them."""
    async with asyncio.timeout(30):
        while not holds(listed := await list_windows(daemon)):
            await asyncio.sleep(0.01)
    return listed
