"""Volumes in containers: shared, by directory, kept, and never a way out."""

import pytest

from controlplane.drivers.base import DriverError, Mount
from tests.controlplane.docker.conftest import Driven, Owned

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


async def test_shared_kept_and_by_directory(driven: Driven, owned: Owned) -> None:
    await driven.driver.make_volume("shared")
    whole = [Mount(volume_id="shared", path="/etc/apt")]
    part = [Mount(volume_id="shared", path="/data", subpath="some dir/part"), Mount(volume_id="shared", path="/all")]
    one = await driven.start("one", mounts=whole, user="nobody")
    assert await driven.execute(one, "ls /etc/apt") == ""
    two = await driven.start("two", mounts=part)
    await driven.execute(two, "echo hello > /data/file")
    assert await driven.execute(one, "cat '/etc/apt/some dir/part/file'; echo mine > /etc/apt/own") == "hello"
    assert await driven.execute(two, "cat /all/own; ls /data") == "mine\nfile"
    for each in ("one", "two"):
        await driven.driver.delete(each)
    again = await driven.start("three", mounts=part)
    assert await driven.execute(again, "cat /data/file /all/own") == "hello\nmine"
    await driven.driver.delete("three")
    await driven.driver.remove_volume("shared")
    await driven.driver.remove_volume("shared")
    assert owned.find(driven.state_dir)["volumes"] == []


async def test_link_in_a_volume_does_not_lead_out(driven: Driven) -> None:
    await driven.driver.make_volume("shared")
    one = await driven.start("one", mounts=[Mount(volume_id="shared", path="/data")])
    await driven.execute(one, "ln -s /etc /data/out; mkdir /data/in; ln -s /etc /data/in/out")
    for number, subpath in enumerate(("out", "in/out", "out/ssh")):
        mounts = [Mount(volume_id="shared", path="/x", subpath=subpath)]
        with pytest.raises(DriverError, match="cannot make"):
            await driven.start(f"bad{number}", mounts=mounts)


async def test_directory_that_becomes_a_link_while_stopped(driven: Driven) -> None:
    await driven.driver.make_volume("shared")
    one = await driven.start("one", mounts=[Mount(volume_id="shared", path="/data")])
    mounts = [Mount(volume_id="shared", path="/x", subpath="part")]
    await driven.start("two", mounts=mounts)
    await driven.driver.stop("two", force=True)
    await driven.execute(one, "rmdir /data/part; ln -s /etc /data/part")
    with pytest.raises(DriverError, match="cannot make"):
        await driven.driver.start(driven.launch("two", mounts=mounts))
