"""Volumes, copies of sandboxes and what the process driver can do beside, by the published Python SDKs."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaNotFoundError,
    Resources,
    VolumeMount,
)

from controlplane.drivers.cgroups import Cgroups
from tests.sdk.clients import Sdk, scenario
from tests.sdk.conftest import Server
from tests.sdk.test_sandbox import Make, make

__all__ = ["make"]
CGROUPS = Cgroups.find("toolboxd-test")
ABSOLUTE = os.geteuid() == 0


@pytest.fixture
def volume(sdk: Sdk) -> Iterator[Any]:
    """Return a volume that is gone with the test."""
    name = f"volume-{sdk.name}-{os.getpid()}"
    found = sdk.run(sdk.daytona.volume.create(name))
    yield found
    try:
        sdk.run(sdk.daytona.volume.delete(found))
    except DaytonaNotFoundError:
        return


@scenario
async def test_volumes(sdk: Sdk, volume: Any) -> None:
    volumes = sdk.daytona.volume
    assert (volume.state, volume.organization_id) == ("ready", "local")
    assert volume.id in [each.id for each in await volumes.list()]
    assert (await volumes.get(volume.name)).id == volume.id
    with pytest.raises(DaytonaConflictError):
        await volumes.create(volume.name)
    with pytest.raises(DaytonaNotFoundError):
        await volumes.get("no-such-volume")
    made = await volumes.get(f"{volume.name}-new", create=True)
    await volumes.delete(made)
    assert made.id not in [each.id for each in await volumes.list()]


@scenario
async def test_two_sandboxes_share_a_volume(sdk: Sdk, volume: Any, make: Make) -> None:
    path = f"/mnt/volume-{os.getpid()}-{sdk.name}" if ABSOLUTE else "~/volume"
    one = await make(volumes=[VolumeMount(volume_id=volume.id, mount_path=path)])
    two = await make(volumes=[VolumeMount(volume_id=volume.name, mount_path=path, subpath="a/b")])
    assert [(each.volume_id, each.mount_path, each.subpath) for each in two.volumes] == [(volume.id, path, "a/b")]
    await two.process.exec(f"echo seen > {path}/file")
    assert (await one.process.exec(f"cat {path}/a/b/file")).result == "seen\n"
    if ABSOLUTE:
        assert await one.fs.download_file(f"{path}/a/b/file") == b"seen\n"
    with pytest.raises(DaytonaBadRequestError, match="is in sandbox"):
        await sdk.daytona.volume.delete(volume)
    await one.delete(wait=True)
    await two.delete(wait=True)
    three = await make(volumes=[VolumeMount(volume_id=volume.id, mount_path=path)])
    assert (await three.process.exec(f"cat {path}/a/b/file")).result == "seen\n"
    await three.delete(wait=True)
    with pytest.raises(DaytonaNotFoundError, match="volume not found"):
        await make(volumes=[VolumeMount(volume_id="no-such-volume", mount_path=path)])
    with pytest.raises(DaytonaNotFoundError, match="snapshot not found"):
        await make(snapshot="no-such-snapshot")


@scenario
async def test_snapshot_of_a_sandbox(sdk: Sdk, make: Make) -> None:
    name = f"shot-{sdk.name}-{os.getpid()}"
    box = await make()
    await box.process.exec("mkdir d; echo kept > d/file; ln -s file d/link")
    await box.create_snapshot(name)
    assert box.state == "started"
    copy = await make(snapshot=name)
    assert copy.snapshot == name
    assert (await copy.process.exec("cat d/link")).result == "kept\n"
    with pytest.raises(DaytonaConflictError):
        await box.create_snapshot(name)
    await copy.delete(wait=True)
    await sdk.daytona.snapshot.delete(name)


@scenario
async def test_fork(sdk: Sdk, make: Make) -> None:
    box = await make(env_vars={"A": "b"})
    await box.process.exec("echo one > file")
    fork = await box.fork(name=f"fork-{sdk.name}-{os.getpid()}")
    assert fork.state == "started"
    assert (await fork.process.exec("cat file; echo $A; echo two > file")).result == "one\nb\n"
    assert (await box.process.exec("cat file")).result == "one\n"
    await fork.delete(wait=True)


@scenario
async def test_archive(sdk: Sdk, make: Make) -> None:
    box = await make()
    with pytest.raises(DaytonaBadRequestError):
        await box.archive()
    await box.process.exec("echo kept > file")
    await box.stop()
    await box.archive()
    assert box.state in ("archiving", "archived")
    await box.start()
    assert (box.state, (await box.process.exec("cat file")).result) == ("started", "kept\n")


@scenario
async def test_ephemeral_sandbox_goes_when_it_stops(sdk: Sdk, make: Make) -> None:
    box = await make(ephemeral=True)
    await box.stop()
    with pytest.raises(DaytonaNotFoundError):
        await sdk.daytona.get(box.id)


@scenario
async def test_pause(sdk: Sdk, make: Make) -> None:
    box = await make(auto_stop_interval=0)
    if not CGROUPS.can_freeze:
        with pytest.raises(DaytonaBadRequestError, match="cannot pause"):
            await box.pause()
        return
    await box.set_auto_pause_interval(30)
    await box.process.exec("sleep 1000 >/dev/null 2>&1 & echo $! > pid")
    await box.pause()
    assert box.state == "paused"
    await box.start()
    assert (await box.process.exec("kill -0 $(cat pid) && echo alive")).result == "alive\n"


@scenario
async def test_resize(sdk: Sdk, make: Make) -> None:
    box = await make()
    with pytest.raises(DaytonaBadRequestError, match=r"cpu|resize"):
        await box.resize(Resources(cpu=100_000))
    with pytest.raises(DaytonaBadRequestError, match="disk"):
        await box.resize(Resources(disk=box.disk + 1))
    if CGROUPS.can_limit:
        with pytest.raises(DaytonaBadRequestError, match="can only grow"):
            await box.resize(Resources(cpu=1))
        await box.stop()
        await box.resize(Resources(cpu=1))
        await box.start()
        assert box.cpu == 1


@scenario
async def test_user(sdk: Sdk) -> None:
    params = CreateSandboxFromSnapshotParams(os_user="nobody")
    if not ABSOLUTE:
        with pytest.raises(DaytonaBadRequestError, match="user"):
            await sdk.daytona.create(params)
        return
    box = await sdk.daytona.create(params)
    try:
        assert (await box.process.exec("id -un; touch here")).result == "nobody\n"
        await box.fs.upload_file(b"x", "uploaded")
        assert (await box.process.exec("stat -c %U here uploaded")).result == "nobody\nnobody\n"
    finally:
        await box.delete(wait=True)


def test_nothing_is_mounted_on_the_machine(server: Server) -> None:
    assert str(server.state_dir) not in Path("/proc/self/mounts").read_text()
