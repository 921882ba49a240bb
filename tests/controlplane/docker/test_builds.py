"""Declarative images and snapshots of images with real containers."""

import asyncio
import io
import tarfile

import pytest

from tests.controlplane.conftest import Plane
from tests.controlplane.docker.conftest import DEBIAN, Owned
from tests.controlplane.test_builds import build_info, text, until
from tests.controlplane.test_storage import bucket_of

pytestmark = pytest.mark.engine


async def test_declarative_image(plane: Plane, owned: Owned) -> None:
    digest, content = "0" * 32, io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        info = tarfile.TarInfo("here/file")
        info.size = 8
        tar.addfile(info, io.BytesIO(b"content\n"))
    async with bucket_of(plane) as bucket:
        await bucket.call("PUT", f"local/{digest}/context.tar", content.getvalue())
    dockerfile = f'FROM {DEBIAN}\nCOPY ["here/file", "/file"]\nENV COLOUR=red\nRUN echo in the log > /made; cat /made\n'
    made = await plane.create(buildInfo=build_info(dockerfile, digest))
    assert made["state"] == "pending_build"
    assert "in the log\n" in await text(plane, f"/sandbox/{made['id']}/build-logs", follow="true")
    box = await until(plane, f"/sandbox/{made['id']}", "started", "error", "build_failed")
    assert box["state"] == "started", box
    assert await plane.execute(box, "cat /file /made; echo $COLOUR") == "content\nin the log\nred"
    again = await plane.create(buildInfo=build_info(dockerfile, digest))
    assert again["state"] == "started"
    bad = await plane.create(buildInfo=build_info(f"FROM {DEBIAN}\nRUN exit 7\n"))
    found = await until(plane, f"/sandbox/{bad['id']}", "started", "error", "build_failed")
    assert (found["state"], "7" in found["errorReason"]) == ("build_failed", True), found


async def test_snapshot_of_an_image(plane: Plane, owned: Owned) -> None:
    await plane.call("POST", "/snapshots", json={"name": "mine", "imageName": DEBIAN, "cpu": 1, "memory": 1})
    found = await until(plane, "/snapshots/mine", "active", "error")
    assert found["state"] == "active", found
    box = await plane.create(snapshot="mine")
    assert (box["cpu"], box["memory"]) == (1, 1)
    assert await plane.execute(box, "echo fine") == "fine"
    await plane.call("DELETE", "/snapshots/mine")
    await plane.call("DELETE", f"/sandbox/{box['id']}")
    async with asyncio.timeout(30):
        while owned.find(plane.state_dir / "controlplane")["images"]:
            await asyncio.sleep(0.1)
