"""An engine that is down, goes away and comes back; a control plane that is killed; two of them on one engine."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from controlplane.drivers.docker.engine import find_engine
from tests.conftest import Toolboxd
from tests.controlplane.conftest import Plane
from tests.controlplane.docker.conftest import DEBIAN, Owned, Service, container_name, docker_plane, driver_on, inspect
from tests.controlplane.test_recovery import connected
from tests.controlplane.test_settling import set_state
from tests.image.conftest import Engine
from toolbox.config import ConfigError

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
NOBODY = 65534
Start = Callable[..., Awaitable[Toolboxd]]


async def state_of(plane: Plane, sandbox: Any, *, until: str) -> Any:
    """Return a sandbox once it is in a state."""
    async with asyncio.timeout(60):
        while (found := await plane.call("GET", f"/sandbox/{sandbox['id']}"))["state"] != until:
            await asyncio.sleep(0.02)
    return found


def test_engine_is_found(tmp_path: Path) -> None:
    assert find_engine("tcp://127.0.0.1:1", {"DOCKER_HOST": "unix:///x"}) == "tcp://127.0.0.1:1"
    assert find_engine(None, {"DOCKER_HOST": "unix:///x"}) == "unix:///x"
    assert find_engine("/run/some.sock", {}) == "unix:///run/some.sock"


@pytest.mark.parametrize("host", ["unix:///nowhere/engine.sock", "tcp://127.0.0.1:9", "nonsense"])
async def test_engine_that_is_down_at_the_start(tmp_path: Path, bundle: Path, start_toolboxd: Start, host: str) -> None:
    options = ["--port", "0", "--driver", "docker", "--docker-host", host, "--bundle", str(bundle)]
    toolboxd = await start_toolboxd("up", *options)
    await toolboxd.process.wait()
    code, errors = await toolboxd.end()
    assert code == 2
    assert errors.startswith(("toolboxd: no container engine answers at", "toolboxd: docker-host: not usable"))
    assert host in errors
    assert "Traceback" not in errors


async def test_no_such_image_or_bundle(tmp_path: Path, service: Service, bundle: Path) -> None:
    with pytest.raises(ConfigError, match="no image for sandboxes: cannot pull localhost/nosuch:1"):
        async with driver_on(tmp_path / "a", service, bundle, image="localhost/nosuch:1"):
            pass
    with pytest.raises(ConfigError, match="no bundle"):
        async with driver_on(tmp_path / "b", service, tmp_path):
            pass


async def test_engine_that_goes_away_and_comes_back(
    tmp_path: Path, mortal_service: Service, bundle: Path, owned: Owned, engine: Engine
) -> None:
    state = tmp_path / "state"
    async with docker_plane(state, mortal_service, bundle, owned) as plane:
        lost, kept = [await plane.create(name=name) for name in ("lost", "kept")]
        mortal_service.end()
        failed = await plane.call("POST", "/sandbox", expect=503, json={"name": "none"})
        assert "the container engine does not answer" in failed["message"]
        assert await plane.execute(kept, "echo still here") == "still here"
        await plane.call("POST", "/sandbox/kept/stop", expect=503)
        assert "does not answer" in (await plane.call("GET", "/sandbox/kept"))["errorReason"]
        engine.call("kill", container_name(state / "controlplane", lost["id"]))
        mortal_service.start()
        assert "exit code 137" in (await state_of(plane, lost, until="error"))["errorReason"]
        await plane.create(name="none-after-all")
        await plane.call("POST", "/sandbox/kept/recover")
        assert await plane.execute(kept, "echo back") == "back"
        await plane.call("DELETE", "/sandbox/none")
        await plane.create(name="none")


@pytest.mark.parametrize("what", ["create", "start", "snapshot", "fork", "build"])
async def test_engine_that_dies_in_the_middle(
    tmp_path: Path, mortal_service: Service, bundle: Path, owned: Owned, engine: Engine, what: str
) -> None:
    state = tmp_path / "state"
    async with docker_plane(state, mortal_service, bundle, owned) as plane:
        before = owned.find(state / "controlplane")["images"]
        box = await plane.create(name="box")
        await plane.execute(box, "echo kept > file; head -c 128M /dev/urandom > big")
        if what == "start":
            await plane.call("POST", "/sandbox/box/stop")
        directory = state / "controlplane"
        method, path, body, begun = _middle(what, box["id"], mortal_service, engine, owned, directory)
        answer = asyncio.ensure_future(plane.http.request(method, plane.api_url + path, json=body))
        while not answer.done() and not await asyncio.to_thread(begun):
            await asyncio.sleep(0.001)
        assert what not in ("snapshot", "fork") or not answer.done()
        mortal_service.end()
        async with await answer as response:
            assert response.status in (200, 202, 500, 503), await response.text()
        mortal_service.start()

        found = {each["name"]: each for each in (await plane.call("GET", "/sandbox"))["items"]}
        assert found["box"]["state"] in ("started", "error")
        if found["box"]["state"] == "error":
            await plane.call("POST", "/sandbox/box/recover")
        assert await plane.execute(box, "cat file") == "kept"
        # It is said of each what became of it, and all can be done again.
        assert {each["state"] for each in found.values()} <= {"started", "error"}
        for each in found.values():
            await plane.call("DELETE", f"/sandbox/{each['id']}")
        for each in (await plane.call("GET", "/snapshots"))["items"]:
            assert each["state"] in ("active", "error") or what == "build"
            if not each["general"]:
                await plane.call("DELETE", f"/snapshots/{each['id']}")
        again = await plane.create(name="box")
        await plane.call("DELETE", f"/sandbox/{again['id']}")
    async with docker_plane(state, mortal_service, bundle, owned):
        left = owned.find(state / "controlplane")
        assert (left["containers"], left["volumes"], left["images"]) == ([], [], before)


def _middle(
    what: str, sandbox_id: str, service: Service, engine: Engine, owned: Owned, state: Path
) -> tuple[str, str, Any, Callable[[], bool]]:
    """Return a request, and what tells that the engine is in the middle of it."""

    def copying() -> bool:
        # Podman does not tell: it answers when it is done.
        return any(service.directory.glob("buildah*/layer"))

    def running() -> bool:
        return bool(inspect(engine, state, sandbox_id)["State"]["Running"])

    def two() -> bool:
        return len(owned.find(state)["containers"]) > 1

    def at_once() -> bool:
        return True

    dockerfile = f"FROM {DEBIAN}\nRUN sleep 1 && echo made > /made\n"
    match what:
        case "create":
            return "POST", "/sandbox", {"name": "other"}, two
        case "start":
            return "POST", f"/sandbox/{sandbox_id}/start", None, running
        case "snapshot":
            return "POST", f"/sandbox/{sandbox_id}/snapshot", {"name": "shot"}, copying
        case "fork":
            return "POST", f"/sandbox/{sandbox_id}/fork", {"name": "fork"}, copying
        case _:
            body = {"name": "built", "buildInfo": {"dockerfileContent": dockerfile, "contextHashes": []}}
            return "POST", "/snapshots", body, at_once


async def test_killed_control_plane_finds_its_sandboxes(
    tmp_path: Path, service: Service, bundle: Path, owned: Owned, engine: Engine, start_toolboxd: Start
) -> None:
    state = tmp_path / "state"
    owned.state_dirs.append(state / "controlplane")
    options = ["up", "--port", "0", "--driver", "docker", "--image", DEBIAN, "--bundle", str(bundle)]
    environment = {"DOCKER_HOST": service.host}
    first = await start_toolboxd(*options, env=environment)
    async with connected(first, state) as plane:
        await plane.call("POST", "/secret", 201, json={"name": "key", "value": "swordfish", "hosts": ["nowhere"]})
        names = ("kept", "stopped", "lost", "removed", "pausing", "creating", "deleting")
        paused = await plane.create(name="paused", secrets=[{"KEY": "key"}])
        kept, _, lost, removed, pausing, half, _ = await asyncio.gather(*(plane.create(name=name) for name in names))
        await plane.execute(kept, "sleep 1000 > /dev/null 2>&1 & echo $! > pid")
        await plane.call("POST", "/sandbox/paused/pause")
        await plane.call("POST", "/sandbox/pausing/pause")
        await plane.call("POST", "/sandbox/stopped/stop")
        first.process.kill()
        await first.end()
    engine.call("kill", container_name(state / "controlplane", lost["id"]))
    for each in (removed, half):
        engine.call("rm", "--force", container_name(state / "controlplane", each["id"]))
    for name in ("pausing", "creating"):
        set_state(state, name, name)
    set_state(state, "deleting", "destroying")
    second = await start_toolboxd(*options, env=environment)
    async with connected(second, state) as plane:
        states = {each["name"]: each["state"] for each in (await plane.call("GET", "/sandbox"))["items"]}
        assert states == {
            "kept": "started",
            "paused": "paused",
            "stopped": "stopped",
            "lost": "stopped",
            "removed": "stopped",
            "pausing": "started",
        }
        assert len(list((state / "controlplane/sandboxes").iterdir())) == len(states)
        assert await plane.execute(pausing, "echo goes on") == "goes on"
        assert await plane.execute(kept, "kill -0 $(cat pid) && echo alive") == "alive"
        for name in ("paused", "stopped", "lost"):
            await plane.call("POST", f"/sandbox/{name}/start")
        proxy = urlsplit(await plane.execute(paused, "echo $https_proxy"))
        _, writer = await asyncio.open_connection(proxy.hostname, proxy.port)
        writer.close()
        await writer.wait_closed()
        await plane.call("POST", "/sandbox/removed/start", expect=500)
        engine.call("kill", container_name(state / "controlplane", kept["id"]))
        await state_of(plane, kept, until="error")
    code, errors = await second.end()
    assert code == 0, errors
    assert "process driver" not in errors
    assert not inspect(engine, state / "controlplane", paused["id"])["State"]["Running"]


@pytest.mark.skipif(os.getuid() != 0, reason="not possible here: becoming another user needs root")
async def test_control_plane_that_is_not_root(mortal_service: Service, bundle: Path, owned: Owned) -> None:
    socket = Path(mortal_service.host.removeprefix("unix://"))
    socket.chmod(0o666)
    socket.parent.chmod(0o755)
    home = socket.parent / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    owned.state_dirs.append(home / "state/controlplane")
    # It has a Python that everybody may run, and is the bundle that goes into containers too.
    await asyncio.to_thread(shutil.copytree, bundle, socket.parent / "bundle", symlinks=True)
    command = [f"{socket.parent}/bundle/bin/toolboxd", "up", "--port", "0", "--driver", "docker", "--image", DEBIAN]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "DOCKER_HOST": mortal_service.host}
    toolboxd = Toolboxd(
        await asyncio.create_subprocess_exec(
            *command,
            *("--state-dir", str(home / "state")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
    )
    try:
        async with connected(toolboxd, home / "state") as plane:
            for user in ("root", "nobody", "4242"):
                sandbox = await plane.create(user=user)
                assert await plane.execute(sandbox, "id -un 2>/dev/null || true") == user
                await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
            assert list((home / "state/controlplane/sandboxes").iterdir()) == []
    finally:
        code, errors = await toolboxd.end()
    assert code == 0, errors


async def test_killed_within_create_leaves_nothing(
    tmp_path: Path, service: Service, bundle: Path, owned: Owned, start_toolboxd: Start
) -> None:
    state = tmp_path / "state"
    owned.state_dirs.append(state / "controlplane")
    options = ["up", "--port", "0", "--driver", "docker", "--image", DEBIAN, "--bundle", str(bundle)]
    options += ["--docker-host", service.host]
    first = await start_toolboxd(*options)
    async with connected(first, state) as plane:
        creating = asyncio.ensure_future(plane.http.post(plane.api_url + "/sandbox", json={"name": "half"}))
        async with asyncio.timeout(30):
            while not owned.find(state / "controlplane")["containers"]:
                await asyncio.sleep(0.01)
        first.process.kill()
        await first.end()
        await asyncio.gather(creating, return_exceptions=True)
    second = await start_toolboxd(*options)
    async with connected(second, state) as plane:
        for each in (await plane.call("GET", "/sandbox"))["items"]:
            assert each["state"] == "started"
            await plane.call("DELETE", f"/sandbox/{each['id']}")
        assert owned.find(state / "controlplane")["containers"] == []
        assert list((state / "controlplane/sandboxes").iterdir()) == []


async def test_strays_are_removed_and_others_left_alone(
    tmp_path: Path, service: Service, bundle: Path, owned: Owned, engine: Engine
) -> None:
    owned.state_dirs += [tmp_path / "mine", tmp_path / "theirs"]
    async with (
        driver_on(tmp_path / "mine", service, bundle) as mine,
        driver_on(tmp_path / "theirs", service, bundle) as theirs,
    ):
        for each in (mine, theirs):
            await each.start("one")
            await each.start("two")
        await asyncio.to_thread(mine.driver._place("one").remove)
    async with driver_on(tmp_path / "mine", service, bundle) as mine:
        assert list(await mine.driver.recover({"two"})) == ["two"]
        assert not mine.driver.is_running("one")
    assert len(owned.find(tmp_path / "mine")["containers"]) == 1
    assert len(owned.find(tmp_path / "theirs")["containers"]) == 2
    assert inspect(engine, tmp_path / "theirs", "one")["State"]["Running"]
