"""Builds and a control plane that is killed: what was not finished begins anew."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.conftest import Toolboxd
from tests.controlplane.test_builds import build_info, text, until
from tests.controlplane.test_recovery import connected

Start = Callable[[], Awaitable[Toolboxd]]
ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.usefixtures("reap_orphans")


@pytest.fixture
async def start(tmp_path: Path, environ: None) -> AsyncIterator[Start]:
    """Return a function that starts `toolboxd up` with the driver that builds."""
    started: list[Toolboxd] = []

    async def start() -> Toolboxd:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.controlplane.building", "up", "--port", "0"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env={
                **os.environ,
                "TOOLBOX_STATE_DIR": str(tmp_path / "state"),
                "PYTHONPATH": str(ROOT),
                "HOME": str(tmp_path),
            },
        )
        started.append(Toolboxd(process))
        return started[-1]

    yield start
    for each in started:
        await each.end()


async def exists(path: Path) -> None:
    async with asyncio.timeout(30):
        while not path.exists():
            await asyncio.sleep(0.02)


async def test_kill_while_building(tmp_path: Path, start: Start) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    wait = f"RUN touch {begun}; while ! test -e {gate}; do sleep 0.05; done; echo done > file\n"
    first = await start()
    async with connected(first, tmp_path / "state") as plane:
        await plane.create(name="box", buildInfo=build_info("FROM debian\n" + wait))
        await plane.call("POST", "/snapshots", json={"name": "snap", "buildInfo": build_info("FROM debian\n" + wait)})
        await exists(begun)
        first.process.kill()
        await first.end()
    gate.touch()
    second = await start()
    async with connected(second, tmp_path / "state") as plane:
        box = await until(plane, "/sandbox/box", "started", "error", "build_failed")
        assert await plane.execute(box, "cat file") == "done"
        await until(plane, "/snapshots/snap", "active")
        assert "FROM debian" in await text(plane, "/sandbox/box/build-logs", follow="true")
        await plane.call("DELETE", "/sandbox/box")
    assert (await second.end())[0] == 0


async def test_kill_after_the_build(tmp_path: Path, start: Start) -> None:
    gate = tmp_path / "gate"
    first = await start()
    async with connected(first, tmp_path / "state") as plane:
        dockerfile = f"FROM debian\nENV CREATE_GATE={gate}\nRUN echo once >> {tmp_path / 'count'}\n"
        await plane.create(name="box", buildInfo=build_info(dockerfile))
        await until(plane, "/sandbox/box", "creating")
        first.process.kill()
        await first.end()
    gate.touch()
    second = await start()
    async with connected(second, tmp_path / "state") as plane:
        await until(plane, "/sandbox/box", "started")
        assert (tmp_path / "count").read_text() == "once\n"
        await plane.call("DELETE", "/sandbox/box")
    assert (await second.end())[0] == 0


async def test_stop_while_building(tmp_path: Path, start: Start) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    first = await start()
    async with connected(first, tmp_path / "state") as plane:
        wait = f"RUN touch {begun}; test -e {gate} || exec sleep 1000\n"
        await plane.create(name="box", buildInfo=build_info("FROM debian\n" + wait))
        await exists(begun)
    assert (await first.end())[0] == 0
    gate.touch()
    second = await start()
    async with connected(second, tmp_path / "state") as plane:
        await until(plane, "/sandbox/box", "started")
        await plane.call("DELETE", "/sandbox/box")
    assert (await second.end())[0] == 0
