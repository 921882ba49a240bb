"""No descriptor, no process, no thread is left: requests fail with a reason, and all is well afterwards."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.faults.conftest import Start

_FILES = 120


async def test_more_connections_than_there_is_room_for(remote: Start) -> None:
    daemon = await remote(before=("prlimit", f"--nofile={_FILES}"))
    await daemon.works()
    silent = [await asyncio.open_connection("127.0.0.1", daemon.port) for _ in range(_FILES)]
    answers = [await reader.readline() for reader, _ in silent[_FILES // 2 :]]
    assert set(answers) == {b"HTTP/1.1 503 Service Unavailable\r\n"}
    # The connections that are there still get everything.
    await daemon.works()
    for _, writer in silent:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    async with aiohttp.ClientSession(daemon.url) as new, new.get("/healthz") as response:
        assert response.status == 200


async def test_no_descriptors_are_left(remote: Start) -> None:
    daemon = await remote(before=("prlimit", f"--nofile={_FILES}"))
    await daemon.works()
    before = daemon.descriptors()
    assert (await daemon.call("POST", "/process/session", {"sessionId": "kept"}))[0] == 201
    assert (await daemon.session("kept", "x=1"))[1]["exitCode"] == 0
    timed = asyncio.create_task(daemon.execute_for(2, "setsid sleep 1000 & sleep 1000"))
    await daemon.until(lambda: any("sleep" in each for each in daemon.programs()))
    names = [f"many-{number}" for number in range(_FILES)]
    made = []
    for name in names:
        status, _ = await daemon.call("POST", "/process/pty", {"id": name})
        if status == 503:
            break
        made.append(name)
    outcomes = await daemon.tries()
    assert not outcomes & {500, 502}, outcomes
    assert await timed == 408
    assert not any("sleep" in each for each in daemon.programs())
    for name in made:
        assert (await daemon.call("DELETE", f"/process/pty/{name}"))[0] == 200
    await daemon.works()
    assert (await daemon.session("kept", "echo $x"))[1]["stdout"] == "1\n"
    assert (await daemon.call("DELETE", "/process/session/kept"))[0] == 204
    await daemon.until(lambda: daemon.descriptors() <= before + 16)
    await daemon.until(lambda: "Z" not in daemon.children().values())


@pytest.fixture
def pids_group(tmp_path: Path) -> Iterator[Path]:
    """Return a control group in which processes can be counted."""
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = root / f"faults-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
        if (group / "pids.max").exists():
            break
    else:
        pytest.skip("not possible here: no control group for processes")
    yield group
    group.rmdir()


async def test_no_processes_are_left(pids_group: Path, remote: Start) -> None:
    daemon = await remote()
    (pids_group / "cgroup.procs").write_text(str(daemon.pid))
    await daemon.works()
    assert (await daemon.call("POST", "/process/session", {"sessionId": "kept"}))[0] == 201
    (pids_group / "pids.max").write_text("1")  # what runs goes on, but nothing is added
    outcomes = await daemon.tries()
    assert not outcomes & {500, 502}, outcomes
    status, answer = await daemon.call("POST", "/process/execute", {"command": "echo hello"})
    assert (status, answer["exitCode"]) == (200, -1)
    assert answer["result"].startswith("cannot start /bin/bash")
    assert await daemon.upload("small", b"content") == 200
    (pids_group / "pids.max").write_text("max")
    await daemon.works()
    assert (await daemon.session("kept", "echo still"))[1]["stdout"] == "still\n"
    await daemon.until(lambda: "Z" not in daemon.children().values())
