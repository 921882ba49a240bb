"""`toolboxd up` as a process of its own: what is printed, what survives it, what ends with it."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from controlplane.drivers.cgroups import Cgroups
from tests.conftest import Toolboxd
from tests.controlplane.conftest import Plane
from tests.controlplane.test_egress import outside
from tests.controlplane.world import ALLOWED, World

__all__ = ["outside"]
Start = Callable[..., Awaitable[Toolboxd]]
Find = Callable[[Path], list[int]]
CGROUPS = Cgroups.find("toolboxd-test")


pytestmark = pytest.mark.usefixtures("reap_orphans")


@asynccontextmanager
async def connected(toolboxd: Toolboxd, state_dir: Path) -> AsyncIterator[Plane]:
    url = await toolboxd.line("export DAYTONA_API_URL=")
    key = await toolboxd.line("export DAYTONA_API_KEY=")
    assert url.startswith("http://127.0.0.1:")
    port = int(url.removesuffix("/api").rpartition(":")[2])
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
        yield Plane(port, key, state_dir, http)


def leftovers(state_dir: Path) -> list[Path]:
    """Return the sockets and process records that are only there while something runs."""
    return [path for pattern in ("**/*.sock", "**/daemon.json") for path in state_dir.glob(pattern)]


async def test_restart_keeps_key_and_sandboxes(tmp_path: Path, start_toolboxd: Start, processes_of: Find) -> None:
    state = tmp_path / "state"
    first = await start_toolboxd("up", "--port", "0")
    async with connected(first, state) as plane:
        key, sandbox = plane.api_key, await plane.create(name="mine", labels={"a": "b"}, env={"X": "1"})
        await plane.execute(sandbox, "echo kept > file; sleep 1000 >/dev/null 2>&1 &")
    code, errors = await first.end()
    assert code == 0, errors
    assert "not their users" in errors
    assert key not in errors
    assert processes_of(state) == []
    assert leftovers(state) == []
    second = await start_toolboxd("up", "--port", "0")
    async with connected(second, state) as plane:
        assert plane.api_key == key
        found = await plane.call("GET", "/sandbox/mine")
        assert (found["state"], found["labels"], found["id"]) == ("stopped", {"a": "b"}, sandbox["id"])
        await plane.call("POST", "/sandbox/mine/start")
        assert await plane.execute(sandbox, "cat file; echo $X") == "kept\n1"
        await plane.call("DELETE", "/sandbox/mine")
    key_file = state / "controlplane/api-key"
    assert key_file.stat().st_mode & 0o777 == 0o600


async def test_kill_and_adopt(tmp_path: Path, start_toolboxd: Start, processes_of: Find) -> None:
    state = tmp_path / "state"
    first = await start_toolboxd("up", "--port", "0")
    async with connected(first, state) as plane:
        kept, lost, stopped = [await plane.create(name=name) for name in ("kept", "lost", "stopped")]
        await plane.execute(kept, "sleep 1000 >/dev/null 2>&1 & echo $! > pid")
        await plane.call("POST", "/sandbox/stopped/stop")
        first.process.kill()
        await first.end()
    (tmp_path / "lost").mkdir()
    record = plane.home(lost).parent / "daemon.json"
    os.kill(int(record.read_text().partition('"pid":')[2].partition(",")[0]), signal.SIGKILL)
    second = await start_toolboxd("up", "--port", "0")
    async with connected(second, state) as plane:
        states = {each["name"]: each["state"] for each in (await plane.call("GET", "/sandbox"))["items"]}
        assert states == {"kept": "started", "lost": "stopped", "stopped": "stopped"}
        assert await plane.execute(kept, "kill -0 $(cat pid) && echo alive") == "alive"
        await plane.call("POST", "/sandbox/lost/start")
        assert await plane.execute(lost, "echo back") == "back"
        await plane.call("POST", "/sandbox/kept/stop")
        assert processes_of(plane.home(kept)) == []
        await plane.call("POST", "/sandbox/kept/start")
        assert stopped["name"] == "stopped"
    assert (await second.end())[0] == 0
    assert processes_of(state) == []
    assert leftovers(state) == []


async def test_adopted_daemon_that_dies_shows(tmp_path: Path, start_toolboxd: Start, processes_of: Find) -> None:
    state = tmp_path / "state"
    first = await start_toolboxd("up", "--port", "0")
    async with connected(first, state) as plane:
        sandbox = await plane.create(name="box")
        first.process.kill()
        await first.end()
    second = await start_toolboxd("up", "--port", "0")
    async with connected(second, state) as plane:
        for pid in processes_of(plane.home(sandbox)):
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while (found := await plane.call("GET", "/sandbox/box"))["state"] == "started":
                await asyncio.sleep(0.01)
        assert found["state"] == "error"
        assert "not known" in found["errorReason"]


async def test_kill_and_adopt_what_is_paused_and_mounted(tmp_path: Path, start_toolboxd: Start) -> None:
    state, path = tmp_path / "state", str(tmp_path / "mounted") if os.geteuid() == 0 else "~/mounted"
    can_pause = CGROUPS.can_freeze
    first = await start_toolboxd("up", "--port", "0")
    async with connected(first, state) as plane:
        await plane.call("POST", "/volumes", json={"name": "shared"})
        volumes = [{"volumeId": "shared", "mountPath": path}]
        one, two = [await plane.create(name=name, volumes=volumes) for name in ("one", "two")]
        if can_pause:
            await plane.call("POST", "/sandbox/two/pause")
        first.process.kill()
        await first.end()
    second = await start_toolboxd("up", "--port", "0")
    async with connected(second, state) as plane:
        assert (await plane.call("GET", "/sandbox/one"))["state"] == "started"
        assert (await plane.call("GET", "/sandbox/two"))["state"] == ("paused" if can_pause else "started")
        await plane.call("POST", "/sandbox/two/start")
        await plane.execute(one, f"echo seen > {path}/file")
        assert await plane.execute(two, f"cat {path}/file") == "seen"
        await plane.call("DELETE", "/sandbox/one")
        assert await plane.execute(two, f"cat {path}/file") == "seen"
        await plane.call("DELETE", "/sandbox/two")
        assert not (tmp_path / "mounted").exists()
        await plane.call("DELETE", "/volumes/shared")
    assert (await second.end())[0] == 0


async def test_kill_within_create_leaks_nothing(tmp_path: Path, start_toolboxd: Start, processes_of: Find) -> None:
    state = tmp_path / "state"
    first = await start_toolboxd("up", "--port", "0")
    async with connected(first, state) as plane:
        creating = asyncio.ensure_future(plane.http.post(plane.api_url + "/sandbox", json={"name": "half"}))
        async with asyncio.timeout(30):
            while not processes_of(state / "controlplane/sandboxes"):
                await asyncio.sleep(0.01)
        first.process.kill()
        await first.end()
        await asyncio.gather(creating, return_exceptions=True)
    second = await start_toolboxd("up", "--port", "0")
    async with connected(second, state) as plane:
        for each in (await plane.call("GET", "/sandbox"))["items"]:
            assert each["state"] == "started"
            await plane.call("DELETE", f"/sandbox/{each['id']}")
        assert processes_of(state / "controlplane/sandboxes") == []
        assert list((state / "controlplane/sandboxes").iterdir()) == []
        await plane.create(name="half")


async def test_second_control_plane_refuses(start_toolboxd: Start) -> None:
    first = await start_toolboxd("up", "--port", "0")
    await first.line("export DAYTONA_API_KEY=")
    second = await start_toolboxd("up", "--port", "0")
    await second.process.wait()
    code, errors = await second.end()
    assert code != 0
    assert "another control plane uses the state directory" in errors
    assert "Traceback" not in errors


async def test_port_in_use(start_toolboxd: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        toolboxd = await start_toolboxd("up", "--port", str(taken.getsockname()[1]))
        await toolboxd.process.wait()
    code, errors = await toolboxd.end()
    assert code != 0
    assert "cannot listen" in errors
    assert "Traceback" not in errors


async def test_long_state_directory(tmp_path: Path, start_toolboxd: Start, processes_of: Find) -> None:
    state = tmp_path / ("long" * 25) / "state"
    toolboxd = await start_toolboxd("up", "--port", "0", "--state-dir", str(state))
    async with connected(toolboxd, state) as plane:
        assert await plane.execute(await plane.create(), "echo fine") == "fine"
    assert (await toolboxd.end())[0] == 0
    assert processes_of(state) == []


async def test_secrets_after_a_kill(tmp_path: Path, start_toolboxd: Start, outside: World) -> None:
    state = tmp_path / "state"
    first = await start_toolboxd("up", "--port", "0")
    async with connected(first, state) as plane:
        await plane.call("POST", "/secret", 201, json={"name": "key", "value": "swordfish", "hosts": [ALLOWED]})
        sandbox = await plane.create(secrets=[{"KEY": "key"}])
        before = await plane.execute(sandbox, "echo $https_proxy $KEY")
        first.process.kill()
        await first.end()
    port = int((state / "controlplane/egress/port").read_text())
    for taken in (False, True):
        with socket.create_server(("127.0.0.1", port if taken else 0)):
            second = await start_toolboxd("up", "--port", "0")
            async with connected(second, state) as plane:
                after = await plane.execute(sandbox, "echo $https_proxy $KEY")
                assert (after == before) is not taken
                ask = f'curl -sSf -H "X-Key: $KEY" {outside.https(ALLOWED)}/'
                assert '"X-Key": "swordfish"' in await plane.execute(sandbox, ask)
                second.process.kill()
                await second.end()
    last = await start_toolboxd("up", "--port", "0")
    async with connected(last, state) as plane:
        await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    code, errors = await last.end()
    assert (code, "swordfish" in errors) == (0, False), errors
