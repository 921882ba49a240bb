"""The published Python SDK, unmodified, against sandboxes that are containers."""

import asyncio

import pytest
from daytona import AsyncDaytona, CreateSandboxFromSnapshotParams, DaytonaConfig, Resources

from tests.controlplane.conftest import Plane

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


async def test_a_sandbox_through_its_states(plane: Plane) -> None:
    async with AsyncDaytona(DaytonaConfig(api_key=plane.api_key, api_url=plane.api_url)) as daytona:
        sandbox = await daytona.create(CreateSandboxFromSnapshotParams(env_vars={"A": "b"}, language="python"))
        assert (await sandbox.process.exec("echo $A")).result == "b\n"
        assert (await sandbox.process.code_run("print(6 * 7)")).result == "42\n"
        await sandbox.fs.upload_file(b"content", "file")
        await sandbox.resize(Resources(memory=2))
        assert sandbox.memory == 2
        await sandbox.pause()
        assert sandbox.state == "paused"
        await sandbox.start()
        await sandbox.create_snapshot("mine")
        fork = await sandbox.fork("other")
        made = await daytona.create(CreateSandboxFromSnapshotParams(snapshot="mine"))
        found = await asyncio.gather(*(each.fs.download_file("file") for each in (sandbox, fork, made)))
        assert found == [b"content"] * 3
        await sandbox.stop()
        await sandbox.archive()
        await sandbox.start()
        assert await sandbox.fs.download_file("file") == b"content"
        for each in (sandbox, fork, made):
            await each.delete(wait=True)
