"""Containers that reach their limits: who asked is told, and the daemon goes on."""

import asyncio
from typing import Any

import pytest

from controlplane.drivers.base import Access, Mount
from controlplane.drivers.docker import containers
from controlplane.upstreams import Upstream
from tests.controlplane.docker.conftest import Driven, container_name
from tests.image.conftest import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
MIB = 1024 * 1024
PROCESSES = 96


async def answer(access: Access, command: str) -> Any:
    """Run a command and return the answer, whatever it is, with the status."""
    async with Upstream(access) as upstream:
        headers = {"Authorization": upstream.authorization}
        url = f"{upstream.origin}/process/execute"
        async with upstream.session.post(url, json={"command": command}, headers=headers) as response:
            return {"status": response.status, **await response.json()}


async def test_out_of_memory(driven: Driven) -> None:
    if not driven.driver._engine.machine.limits_memory:
        pytest.skip("not possible here: the engine limits no memory")
    access = await driven.start("one")
    found = await answer(access, "exec dd if=/dev/zero of=/dev/null bs=2G count=1")
    assert (found["status"], found["cause"]) == (200, "out of memory (SIGKILL)"), found
    assert await driven.execute(access, "cat /proc/1/comm") == "toolboxd"


async def test_full_disk(driven: Driven, engine: Engine) -> None:
    label = f"sandbox-toolbox.owner={driven.driver._owner}"
    options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=nr_blocks=256,mode=1777"]
    engine.call("volume", "create", "--label", label, *options, container_name(driven.state_dir, "small"))
    access = await driven.start("one", mounts=[Mount(volume_id="small", path="/small")])
    found = await answer(access, "head -c 2M /dev/zero > /small/file")
    assert (found["status"], found["exitCode"]) == (200, 1)
    assert "No space left" in found["result"]
    async with Upstream(access) as upstream:
        url, headers = f"{upstream.origin}/files/upload-v2?path=/small/other", {"Authorization": upstream.authorization}
        async with upstream.session.post(url, data=b"x" * MIB, headers=headers) as response:
            assert response.status == 507, await response.text()
    assert await driven.execute(access, "ls /small; rm /small/file; echo fits > /small/file; cat /small/file") == (
        "file\nfits"
    )


async def test_too_many_processes(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    if not driven.driver._engine.machine.limits_pids:
        pytest.skip("not possible here: the engine limits no processes")
    monkeypatch.setattr(containers, "MOST_PROCESSES", PROCESSES)
    access = await driven.start("one")
    found = await answer(access, "sh -c 'while :; do sleep 1000 > /dev/null 2>&1 & done'")
    assert "Cannot fork" in found["result"]
    async with Upstream(access) as upstream:
        assert await upstream.version() is not None
    await driven.driver.stop("one", force=False)
    again = await driven.driver.start(driven.launch("one"))
    async with asyncio.timeout(60):
        assert await driven.execute(again, "echo back") == "back"
