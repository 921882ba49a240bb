"""The published Python SDK, unmodified, against the control plane."""

import asyncio
import os
import sys

import pytest
from daytona import (
    AsyncDaytona,
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    DaytonaConfig,
    DaytonaConflictError,
    DaytonaNotFoundError,
    DaytonaValidationError,
    ListSandboxesQuery,
)

from tests.controlplane.conftest import Plane


def config(plane: Plane) -> DaytonaConfig:
    return DaytonaConfig(api_key=plane.api_key, api_url=plane.api_url)


async def test_async_client(plane: Plane) -> None:
    async with AsyncDaytona(config(plane)) as daytona:
        params = CreateSandboxFromSnapshotParams(name="one", env_vars={"A": "b"}, labels={"team": "x"})
        first, second = await asyncio.gather(daytona.create(params), daytona.create())
        assert (await first.process.exec("echo $A")).result == "b\n"
        assert (await second.process.exec("exit 3")).exit_code == 3
        assert (await daytona.get("one")).id == first.id
        content = os.urandom(8 * 1024 * 1024)
        await first.fs.upload_file(content, "folder/file.bin")
        assert await first.fs.download_file("folder/file.bin") == content
        with pytest.raises(DaytonaNotFoundError):
            await second.fs.download_file("folder/file.bin")
        found = [each.id async for each in daytona.list(ListSandboxesQuery(labels={"team": "x"}, limit=1))]
        assert found == [first.id]
        assert {each.id async for each in daytona.list(ListSandboxesQuery(limit=1))} == {first.id, second.id}
        await first.stop()
        assert first.state == "stopped"
        await first.start()
        await first.set_labels({"team": "y"})
        await first.set_autostop_interval(0)
        await first.refresh_activity()
        await first.refresh_data()
        assert (first.labels, first.auto_stop_interval, first.state) == ({"team": "y"}, 0, "started")
        with pytest.raises(DaytonaConflictError):
            await daytona.create(params)
        with pytest.raises(DaytonaValidationError):
            await daytona.create(CreateSandboxFromImageParams(image="debian:12"))
        await first.delete(wait=True)
        with pytest.raises(DaytonaNotFoundError):
            await daytona.get("one")
        await daytona.delete(second)


SYNC = """
from daytona import Daytona

daytona = Daytona()
first, second = daytona.create(), daytona.create()
assert first.process.exec("echo hello").result == "hello\\n"
assert {each.id for each in daytona.list()} == {first.id, second.id}
first.stop()
first.start()
assert first.get_work_dir() == first.get_user_home_dir()
daytona.delete(first)
daytona.delete(second)
assert list(daytona.list()) == []
"""


async def test_sync_client(plane: Plane) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SYNC,
        env={**os.environ, "DAYTONA_API_URL": plane.api_url, "DAYTONA_API_KEY": plane.api_key},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
