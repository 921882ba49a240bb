"""What cannot be removed from the disk: it loses no sandbox, and keeps no control plane from starting."""

import asyncio
import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.controlplane.conftest import Plane, plane_on


@contextmanager
def stuck(place: Path) -> Iterator[None]:
    """Mount something in a directory, so that it cannot be removed."""
    inner = place / "stuck"
    inner.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "stuck", inner], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("not possible here: mounts are not permitted")
    try:
        yield
    finally:
        subprocess.run(["umount", inner], check=True)


def set_state(state_dir: Path, name: str, state: str) -> None:
    """Leave a sandbox as a control plane does that is killed in the middle."""
    with contextlib.closing(sqlite3.connect(state_dir / "controlplane/sandboxes.sqlite")) as db, db:
        (document,) = db.execute("SELECT document FROM sandbox WHERE name = ?", (name,)).fetchone()
        changed = json.dumps({**json.loads(document), "state": state}).encode()
        db.execute("UPDATE sandbox SET state = ?, document = ? WHERE name = ?", (state, changed, name))


async def archived(plane: Plane, name: str) -> None:
    """Archive a stopped sandbox."""
    await plane.call("POST", f"/sandbox/{name}/archive")
    async with asyncio.timeout(60):
        while (found := await plane.call("GET", f"/sandbox/{name}"))["state"] != "archived":
            assert found["state"] == "archiving", found
            await asyncio.sleep(0.01)


async def test_archived_though_its_files_cannot_be_removed(plane: Plane) -> None:
    sandbox = await plane.create(name="box")
    await plane.execute(sandbox, "echo kept > file")
    await plane.call("POST", "/sandbox/box/stop")
    with stuck(plane.home(sandbox)):
        await archived(plane, "box")
        assert not (plane.home(sandbox) / "file").exists()
    await plane.call("POST", "/sandbox/box/start")
    assert await plane.execute(sandbox, "cat file") == "kept"


async def test_start_though_files_cannot_be_removed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with plane_on(state) as plane:
        boxes = {name: await plane.create(name=name) for name in ("restored", "deleted", "other")}
        await plane.execute(boxes["restored"], "echo kept > file")
        await plane.call("POST", "/sandbox/restored/stop")
        await archived(plane, "restored")
    set_state(state, "restored", "restoring")
    set_state(state, "deleted", "destroying")
    with stuck(plane.home(boxes["restored"])), stuck(plane.home(boxes["deleted"])):
        async with plane_on(state) as plane:
            states = {each["name"]: each["state"] for each in (await plane.call("GET", "/sandbox"))["items"]}
            assert states == {"restored": "archived", "deleted": "destroying", "other": "stopped"}
            await plane.call("POST", "/sandbox/other/start")
            await plane.call("DELETE", "/sandbox/deleted", expect=500)
    async with plane_on(state) as plane:
        assert [each["name"] for each in (await plane.call("GET", "/sandbox"))["items"]] == ["other", "restored"]
        assert not plane.home(boxes["restored"]).exists()
        await plane.call("POST", "/sandbox/restored/start")
        assert await plane.execute(boxes["restored"], "cat file") == "kept"
