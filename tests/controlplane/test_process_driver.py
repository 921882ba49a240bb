"""What the process driver makes of wishes: volumes, users, limits, pauses, and copies of a sandbox's files."""

import asyncio
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest

from controlplane.drivers.cgroups import Cgroups
from controlplane.models import CreateSandbox
from tests.controlplane.conftest import Plane, plane_on
from tests.controlplane.test_sandboxes import REFUSED

ROOT = os.geteuid() == 0
CGROUPS = Cgroups.find("toolboxd-test")
needs_root = pytest.mark.skipif(not ROOT, reason="not possible here: mounts need root")
needs_freezer = pytest.mark.skipif(not CGROUPS.can_freeze, reason="not possible here: no control groups")
needs_limits = pytest.mark.skipif(not CGROUPS.can_limit, reason="not possible here: no control groups")


async def volume(plane: Plane, name: str = "shared") -> Any:
    return await plane.call("POST", "/volumes", json={"name": name})


def mounted(volume_id: str, path: str, subpath: str | None = None) -> dict[str, Any]:
    return {"volumes": [{"volumeId": volume_id, "mountPath": path, "subpath": subpath}]}


HONOURED: dict[str, tuple[Any, str, Any]] = {
    "name": ("mine", "name", "mine"),
    "snapshot": ("default", "snapshot", "default"),
    "user": (pwd.getpwuid(os.geteuid()).pw_name, "user", pwd.getpwuid(os.geteuid()).pw_name),
    "env": ({"A": "b"}, "env", {"A": "b"}),
    "labels": ({"a": "b"}, "labels", {"a": "b"}),
    "public": (True, "public", True),
    "target": ("eu", "target", "eu"),
    "cpu": (1, "cpu", 1),
    "memory": (1, "memory", 1),
    "disk": (1, "disk", 1),
    "autoStopInterval": (7, "autoStopInterval", 7),
    "autoPauseInterval": (7, "autoPauseInterval", 7),
    "autoArchiveInterval": (7, "autoArchiveInterval", 7),
    "autoDeleteInterval": (7, "autoDeleteInterval", 7),
    "ttlMinutes": (7, "autoDestroyAt", None),
    "queueTimeout": (7, "queueTimeout", 7),
    "volumes": ([{"volumeId": "shared", "mountPath": "~/v"}], "volumes", None),
}
"""Field -> a wish, the field that shows it, and what that then says (None: that it says something)."""


async def test_every_field_is_honoured_or_refused(plane: Plane) -> None:
    await volume(plane)
    for name in CreateSandbox.__struct_encode_fields__:
        refusals = [wanted for wanted in REFUSED if name in wanted]
        assert name in HONOURED or refusals, name
        if name not in HONOURED:
            continue
        wish, shown, value = HONOURED[name]
        if (name in ("cpu", "memory") and not CGROUPS.can_limit) or (
            name == "autoPauseInterval" and not CGROUPS.can_freeze
        ):
            assert name in (await plane.call("POST", "/sandbox", 400, json={name: wish}))["message"]
            continue
        sandbox = await plane.create(**{name: wish})
        assert sandbox[shown] == value if value is not None else sandbox[shown], name
        await plane.call("DELETE", f"/sandbox/{sandbox['id']}")


async def test_idle_sandboxes_are_stopped_or_paused(plane: Plane) -> None:
    for more in ({"autoStopInterval": 5}, {"autoDeleteInterval": 0}):
        refusal = await plane.call("POST", "/sandbox", 400, json={"autoPauseInterval": 5, **more})
        assert "autoPauseInterval" in refusal["message"]


async def test_programs_can_keep_sockets_in_the_temporary_directory(plane: Plane) -> None:
    sandbox = await plane.create()
    # A browser's, and what it is about: a socket's path has 107 bytes at most.
    path = "$TMPDIR/org.chromium.Chromium.abcdef/SingletonSocket"
    await plane.execute(sandbox, "mkdir $TMPDIR/org.chromium.Chromium.abcdef")
    bind = "import os, socket; socket.socket(socket.AF_UNIX).bind(os.path.expandvars('%s'))"
    for _ in range(2):
        command = f'rm -f {path}; {sys.executable} -c "{bind % path}"; ls {path} | wc -l'
        assert await plane.execute(sandbox, command) == "1"
        await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
        await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    short = Path(await plane.execute(sandbox, "echo $TMPDIR"))
    assert short.exists()
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    assert not short.is_symlink()


async def test_volume_in_home(plane: Plane) -> None:
    found = await volume(plane)
    assert found["state"] == "ready"
    one = await plane.create(**mounted(found["id"], "~/data/deep"))
    two = await plane.create(**mounted("shared", "~/data", "a/b"))
    await plane.execute(two, "echo below > ~/data/file")
    assert await plane.execute(one, "cat ~/data/deep/a/b/file") == "below"
    await plane.call("DELETE", "/volumes/shared", 400)
    for sandbox in (one, two):
        await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
        await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert await plane.execute(one, "cat ~/data/deep/a/b/file") == "below"
    for sandbox in (one, two):
        await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    three = await plane.create(**mounted("shared", "~/data"))
    assert await plane.execute(three, "cat data/a/b/file") == "below"
    await plane.call("DELETE", f"/sandbox/{three['id']}")
    await plane.call("DELETE", "/volumes/shared")
    await plane.call("GET", "/volumes/by-name/shared", 404)
    assert list((plane.state_dir / "controlplane/volumes").iterdir()) == []


@needs_root
async def test_volume_at_an_absolute_path(plane: Plane, tmp_path: Path) -> None:
    found, other = await volume(plane), await volume(plane, "other")
    path = str(tmp_path / "mounted/here")
    one = await plane.create(**mounted(found["id"], path))
    two = await plane.create(**mounted("shared", path))
    nested = [
        {"volumeId": found["id"], "mountPath": path},
        {"volumeId": other["id"], "mountPath": f"{path}/nested"},
    ]
    three = await plane.create(volumes=nested)
    await plane.execute(one, f"echo seen > {path}/file")
    assert await plane.execute(two, f"cat {path}/file") == "seen"
    await plane.execute(three, f"cat {path}/file; echo inner > {path}/nested/file")
    assert list(Path(path).iterdir()) == [], "not mounted on the machine"
    assert await plane.execute(one, f"ls {path}/nested") == ""
    await plane.call("DELETE", f"/sandbox/{one['id']}")
    assert await plane.execute(two, f"cat {path}/file") == "seen"
    await plane.call("POST", f"/sandbox/{three['id']}/stop")
    await plane.call("DELETE", f"/sandbox/{two['id']}")
    assert not (tmp_path / "mounted").exists(), "mount points go with the last sandbox"
    await plane.call("POST", f"/sandbox/{three['id']}/start")
    assert await plane.execute(three, f"cat {path}/file {path}/nested/file") == "seen\ninner"


@needs_root
async def test_mount_path_that_cannot_be(plane: Plane, tmp_path: Path) -> None:
    await volume(plane)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/usr")
    for path in (tmp_path / "file", tmp_path / "link", tmp_path, Path(sys.prefix), Path("/sys/x")):
        assert "volumes" in (await plane.call("POST", "/sandbox", 400, json=mounted("shared", str(path))))["message"]
    for word in ("~/../x", "~", "~/", "relative", "/", "//"):
        await plane.call("POST", "/sandbox", 400, json=mounted("shared", word))
    await plane.call("POST", "/sandbox", 400, json=mounted("shared", "~/a", "../b"))
    assert (await plane.call("GET", "/sandbox"))["items"] == []


async def test_subpath_does_not_leave_its_volume(plane: Plane) -> None:
    await volume(plane)
    box = await plane.create(**mounted("shared", "~/v"))
    await plane.execute(box, "ln -s /etc v/out")
    assert "link" in (await plane.call("POST", "/sandbox", 400, json=mounted("shared", "~/v", "out/x")))["message"]


async def test_volume_names(plane: Plane) -> None:
    first = await volume(plane, "first")
    await plane.call("POST", "/volumes", 409, json={"name": "first"})
    await plane.call("POST", "/volumes", 400, json={"name": "a/b"})
    unnamed = await plane.call("POST", "/volumes", json={})
    assert unnamed["name"] == unnamed["id"]
    assert [each["id"] for each in await plane.call("GET", "/volumes")] == [unnamed["id"], first["id"]]
    assert await plane.call("GET", f"/volumes/{first['id']}") == first
    for path in ("/volumes/none", "/volumes/by-name/none"):
        await plane.call("GET", path, 404)
    await plane.call("DELETE", "/volumes/none", 404)


@needs_root
async def test_user(plane: Plane) -> None:
    found = await volume(plane)
    box = await plane.create(user="nobody", **mounted("shared", "~/v"))
    home = pwd.getpwnam("nobody").pw_dir
    assert box["user"] == "nobody"
    assert await plane.execute(box, "id -un; pwd; echo $HOME") == f"nobody\n{home}\n{home}"
    await plane.execute(box, "echo x > v/file; echo y > own; mktemp")
    assert (plane.state_dir / "controlplane/volumes" / found["id"] / "file").read_text() == "x\n"
    assert (plane.home(box) / "own").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    async with plane.http.post(f"{plane.origin}/toolbox/{box['id']}/process/session", json={"sessionId": "s"}) as made:
        assert made.ok
    answer = await plane.toolbox("POST", box, "/process/session/s/exec", json={"command": "id -un"})
    assert answer["output"] == "nobody\n"
    await plane.call("POST", f"/sandbox/{box['id']}/snapshot", json={"name": "nobodys"})
    copy = await plane.create(user="nobody", snapshot="nobodys")
    assert await plane.execute(copy, "cat own; echo more > own; cat own") == "y\nmore"
    assert await plane.execute(box, "cat own") == "y"
    for sandbox in (box, copy):
        await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    assert list(Path("/run").glob(f"sandbox-{box['id']}")) == []


@needs_limits
async def test_limits(plane: Plane) -> None:
    box = await plane.create(memory=1, cpu=1, disk=1)
    assert (box["cpu"], box["memory"], box["disk"]) == (1, 1, 1)
    hungry = "python3 -c 'x = bytearray(1500 * 2**20)'"
    path = f"/sandbox/{box['id']}"
    answer = await plane.toolbox("POST", box, "/process/execute", json={"command": hungry})
    assert answer["exitCode"] != 0
    await plane.call("POST", f"{path}/resize", 400, json={"disk": 2})
    resized = await plane.call("POST", f"{path}/resize", json={"memory": 2})
    assert (resized["state"], resized["memory"]) == ("started", 2)
    answer = await plane.toolbox("POST", box, "/process/execute", json={"command": hungry})
    assert answer["exitCode"] == 0
    for field in ("cpu", "memory"):
        assert field in (await plane.call("POST", f"{path}/resize", 400, json={field: 100_000}))["message"]
    await plane.call("POST", f"{path}/resize", 400, json={"memory": 1})
    await plane.call("POST", f"{path}/stop")
    resized = await plane.call("POST", f"{path}/resize", json={"disk": 2, "memory": 1})
    assert (resized["state"], resized["disk"], resized["memory"]) == ("stopped", 2, 1)


@needs_freezer
async def test_pause(plane: Plane) -> None:
    box = await plane.create(autoPauseInterval=5)
    assert (box["autoPauseInterval"], box["autoStopInterval"]) == (5, 0)
    tick = "(while :; do echo >> ticks; sleep 0.01; done) >/dev/null 2>&1 & until [ -s ticks ]; do sleep 0.01; done"
    await plane.execute(box, tick)
    path, ticks = f"/sandbox/{box['id']}", plane.home(box) / "ticks"
    for word, pause, stop in (("autostop/9", 0, 9), ("autopause/0", 0, 9), ("autopause/7", 7, 0)):
        changed = await plane.call("POST", f"{path}/{word}")
        assert (changed["autoPauseInterval"], changed["autoStopInterval"]) == (pause, stop)
    assert (await plane.call("POST", f"{path}/pause"))["state"] == "paused"
    stood = await asyncio.to_thread(ticks.stat)
    await plane.toolbox("GET", box, "/version", 409)
    await asyncio.sleep(0.1)
    assert (await asyncio.to_thread(ticks.stat)).st_size == stood.st_size
    assert (await plane.call("POST", f"{path}/pause"))["state"] == "paused"
    assert (await plane.call("POST", f"{path}/start"))["state"] == "started"
    while (await asyncio.to_thread(ticks.stat)).st_size == stood.st_size:
        await asyncio.sleep(0.01)
    await plane.call("POST", f"{path}/pause")
    assert (await plane.call("POST", f"{path}/stop"))["state"] == "stopped"
    await plane.call("POST", f"{path}/pause", 409)
    await plane.call("POST", f"{path}/start")
    await plane.call("POST", f"{path}/pause")
    await plane.call("DELETE", path)


async def test_fork_and_snapshot(plane: Plane) -> None:
    source = await plane.create(env={"A": "b"})
    await plane.execute(source, "mkdir d; echo one > d/file; ln -s file d/link")
    fork = await plane.call("POST", f"/sandbox/{source['id']}/fork", json={"name": "child"})
    assert (fork["state"], fork["name"], fork["env"]) == ("started", "child", {"A": "b"})
    assert await plane.execute(fork, "cat d/link; echo two > d/file; echo $A") == "one\nb"
    assert await plane.execute(source, "cat d/file") == "one"
    await plane.call("POST", f"/sandbox/{source['id']}/fork", 409, json={"name": "child"})
    shot = await plane.call("POST", f"/sandbox/{source['id']}/snapshot", json={"name": "shot"})
    assert shot["state"] == "started"
    await plane.call("POST", f"/sandbox/{source['id']}/snapshot", 409, json={"name": "shot"})
    await plane.call("DELETE", f"/sandbox/{source['id']}")
    copy = await plane.create(snapshot="shot")
    assert copy["snapshot"] == "shot"
    assert await plane.execute(copy, "cat d/link") == "one"


async def test_archive_and_start(plane: Plane) -> None:
    box = await plane.create()
    path = f"/sandbox/{box['id']}"
    await plane.call("POST", f"{path}/archive", 400)
    await plane.execute(box, "echo kept > file")
    await plane.call("POST", f"{path}/stop")
    assert (await plane.call("POST", f"{path}/archive"))["state"] == "archiving"
    started = await plane.call("POST", f"{path}/start")
    assert (started["state"], started["backupState"]) == ("started", "Completed")
    assert await plane.execute(box, "cat file; echo again > file") == "kept"
    assert list((plane.state_dir / "controlplane/archive").iterdir()) == []
    await plane.call("POST", f"{path}/stop")
    await plane.call("POST", f"{path}/archive")
    while (found := await plane.call("GET", path))["state"] != "archived":
        await asyncio.sleep(0.01)
    assert found["backupCreatedAt"]
    assert not plane.home(box).exists()
    await plane.toolbox("GET", box, "/version", 409)
    await plane.call("POST", f"{path}/start")
    assert await plane.execute(box, "cat file") == "again"
    await plane.call("POST", f"{path}/stop")
    await plane.call("POST", f"{path}/archive")
    await plane.call("DELETE", path)
    assert list((plane.state_dir / "controlplane/archive").iterdir()) == []


async def test_snapshots_survive_a_restart(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state") as plane:
        box = await plane.create()
        await plane.execute(box, "echo kept > file")
        await plane.call("POST", f"/sandbox/{box['id']}/snapshot", json={"name": "shot"})
    async with plane_on(tmp_path / "state") as plane:
        assert await plane.execute(await plane.create(snapshot="shot"), "cat file") == "kept"
