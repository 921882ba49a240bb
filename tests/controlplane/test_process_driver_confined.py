"""The process driver where it may do less: without root and control groups, and on a disk that is full."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Toolboxd
from tests.controlplane.conftest import Plane
from tests.controlplane.test_recovery import connected

UNSHARE = shutil.which("unshare")
pytestmark = [
    pytest.mark.usefixtures("reap_orphans"),
    pytest.mark.skipif(os.geteuid() != 0 or UNSHARE is None, reason="not possible here: namespaces need root"),
]


@asynccontextmanager
async def started(tmp_path: Path, *prefix: str) -> AsyncIterator[Plane]:
    """Run `toolboxd up` by another program."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))}
    process = await asyncio.create_subprocess_exec(
        *(*prefix, sys.executable, "-m", "toolbox", "up", "--port", "0", "--state-dir", str(tmp_path / "state")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ | {"HOME": str(tmp_path), "TOOLBOX_SHELL": "/bin/bash"},
    )
    toolboxd = Toolboxd(process)
    try:
        async with connected(toolboxd, tmp_path / "state") as plane:
            yield plane
    finally:
        code, errors = await toolboxd.end()
    assert code == 0, errors


REFUSED: dict[str, dict[str, Any]] = {
    "cpu": {"cpu": 1},
    "memory": {"memory": 1},
    "autoPauseInterval": {"autoPauseInterval": 5},
    "user": {"user": "nobody"},
    "volumes": {"volumes": [{"volumeId": "shared", "mountPath": "/mnt/volume"}]},
}


async def test_without_root(tmp_path: Path) -> None:
    assert UNSHARE is not None
    async with started(tmp_path, UNSHARE, "--user", "--map-user=1000", "--map-group=1000") as plane:
        await plane.call("POST", "/volumes", json={"name": "shared"})
        for field, wanted in REFUSED.items():
            if (os.cpu_count() or 1) > 1 or field != "cpu":
                assert field in (await plane.call("POST", "/sandbox", 400, json=wanted))["message"]
        volumes = [{"volumeId": "shared", "mountPath": "~/deep/volume", "subpath": "a"}]
        one, two = await plane.create(volumes=volumes), await plane.create(volumes=volumes, disk=1)
        await plane.execute(one, "echo seen > deep/volume/file")
        assert await plane.execute(two, "cat ~/deep/volume/file") == "seen"
        for path in (f"/sandbox/{one['id']}/pause", f"/sandbox/{one['id']}/resize"):
            refusal = await plane.call("POST", path, 400, json={"disk": 2} if "resize" in path else None)
            assert refusal["code"] in ("NOT_SUPPORTED_BY_DRIVER", "BAD_REQUEST")
        await plane.call("POST", f"/sandbox/{one['id']}/stop")
        refusal = await plane.call("POST", f"/sandbox/{one['id']}/resize", 400, json={"cpu": 1})
        assert refusal["code"] == "NOT_SUPPORTED_BY_DRIVER"
        await plane.call("POST", f"/sandbox/{two['id']}/snapshot", json={"name": "shot"})
        copy = await plane.create(snapshot="shot", volumes=volumes)
        assert await plane.execute(copy, "cat deep/volume/file") == "seen"


async def test_full_disk(tmp_path: Path) -> None:
    assert UNSHARE is not None
    mount = f'mkdir {tmp_path}/state && mount -t tmpfs -o size=48m none {tmp_path}/state && exec "$@"'
    async with started(tmp_path, UNSHARE, "--mount", "sh", "-c", mount, "sh") as plane:
        box = await plane.create()
        path = f"/sandbox/{box['id']}"
        await plane.execute(box, "head -c 30000000 /dev/urandom > big; echo kept > file")
        for operation, body in (("snapshot", {"name": "shot"}), ("fork", {"name": "fork"})):
            refusal = await plane.call("POST", f"{path}/{operation}", 507, json=body)
            assert (refusal["code"], "disk is full" in refusal["message"]) == ("INSUFFICIENT_STORAGE", True)
        await plane.call("POST", f"{path}/stop")
        await plane.call("POST", f"{path}/archive")
        while (found := await plane.call("GET", path))["state"] == "archiving":
            await asyncio.sleep(0.01)
        assert (found["state"], found["backupState"]) == ("stopped", "Error")
        assert "disk is full" in found["errorReason"]
        await plane.call("POST", f"{path}/start")
        assert await plane.execute(box, "rm big; cat file") == "kept"
        assert len((await plane.call("GET", "/sandbox"))["items"]) == 1
        await plane.call("POST", f"{path}/snapshot", json={"name": "shot"})
        copy = await plane.create(snapshot="shot")
        assert await plane.execute(copy, "cat file") == "kept"
