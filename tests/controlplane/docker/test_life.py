"""Sandboxes of containers through the API: made, used, changed, ended."""

import asyncio

import pytest

from tests.controlplane.conftest import Plane
from tests.controlplane.docker.conftest import Owned, container_name, inspect
from tests.image.conftest import Engine
from toolbox import __version__

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


async def test_made_used_stopped_started_deleted(plane: Plane, owned: Owned, engine: Engine) -> None:
    sandbox = await plane.create(env={"SECRET": "it's\nsecret"}, labels={"a": "b"})
    assert (sandbox["state"], sandbox["user"], sandbox["cpu"], sandbox["memory"]) == ("started", "root", 1, 1)
    assert sandbox["daemonVersion"] == __version__
    assert await plane.execute(sandbox, 'echo "$SECRET"; pwd; cat /proc/1/comm') == "it's\nsecret\n/root\ntoolboxd"
    assert "it's" not in str(inspect(engine, plane.state_dir / "controlplane", sandbox["id"]))
    await plane.execute(sandbox, "echo kept > file; sleep 1000 > /dev/null 2>&1 &")
    stopped = await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    assert stopped["state"] == "stopped"
    assert not inspect(engine, plane.state_dir / "controlplane", sandbox["id"])["State"]["Running"]
    await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert await plane.execute(sandbox, "cat file; echo $SECRET") == "kept\nit's secret"
    mounts = inspect(engine, plane.state_dir / "controlplane", sandbox["id"])["Mounts"]
    (nameless,) = [each["Name"] for each in mounts if each["Type"] == "volume"]
    await plane.call("POST", f"/sandbox/{sandbox['id']}/stop?force=true")
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    assert owned.find(plane.state_dir / "controlplane") == {"containers": [], "images": [], "volumes": []}
    assert list((plane.state_dir / "controlplane/sandboxes").iterdir()) == []
    assert nameless not in engine.call("volume", "ls", "--quiet").split()


async def test_the_daemon_is_not_the_sandbox_s_to_change(plane: Plane) -> None:
    sandbox = await plane.create()
    answer = await plane.toolbox(
        "POST", sandbox, "/process/execute", json={"command": "touch /opt/sandbox-toolbox/bin/x 2>&1"}
    )
    assert answer["exitCode"] != 0
    assert "TOOLBOX_TOKEN" not in await plane.execute(sandbox, "env; tr '\\0' '\\n' < /proc/1/environ")


async def test_socket_that_the_sandbox_replaces_leads_nowhere(plane: Plane) -> None:
    sandbox = await plane.create()
    socket = "/run/sandbox-toolbox/daemon.sock"
    await plane.execute(sandbox, f"rm {socket}; ln -s /run/other.sock {socket}")
    assert await plane.execute(sandbox, "echo the same daemon") == "the same daemon"
    await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert await plane.execute(sandbox, "echo again") == "again"


async def test_limits(plane: Plane) -> None:
    sandbox = await plane.create(cpu=1, memory=2)
    limits = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true"
    assert await plane.execute(sandbox, limits) == str(2 * 1024**3)
    grown = await plane.call("POST", f"/sandbox/{sandbox['id']}/resize", json={"memory": 3})
    assert (grown["state"], grown["memory"]) == ("started", 3)
    assert await plane.execute(sandbox, limits) == str(3 * 1024**3)
    await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    await plane.call("POST", f"/sandbox/{sandbox['id']}/resize", json={"memory": 1})
    await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert await plane.execute(sandbox, limits) == str(1024**3)
    refused = await plane.call("POST", f"/sandbox/{sandbox['id']}/resize", expect=400, json={"cpu": 100_000})
    assert "cpu" in refused["message"]


async def test_paused_and_resumed(plane: Plane, engine: Engine) -> None:
    sandbox = await plane.create()
    await plane.execute(sandbox, "(while :; do echo x >> ticks; sleep 0.02; done) > /dev/null 2>&1 &")
    paused = await plane.call("POST", f"/sandbox/{sandbox['id']}/pause")
    assert paused["state"] == "paused"
    assert inspect(engine, plane.state_dir / "controlplane", sandbox["id"])["State"]["Status"] == "paused"
    await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert int(await plane.execute(sandbox, "wc -l < ticks")) > 0
    await plane.call("POST", f"/sandbox/{sandbox['id']}/pause")
    stopped = await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    assert stopped["state"] == "stopped"
    await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    await plane.call("POST", f"/sandbox/{sandbox['id']}/pause")
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")


async def test_forked(plane: Plane, owned: Owned) -> None:
    sandbox = await plane.create(env={"A": "b"})
    await plane.execute(sandbox, "echo one > file")
    fork = await plane.call("POST", f"/sandbox/{sandbox['id']}/fork", json={"name": "other"})
    assert (fork["state"], fork["name"]) == ("started", "other")
    assert await plane.execute(fork, "cat file; echo $A $DAYTONA_SANDBOX_ID") == f"one\nb {fork['id']}"
    await plane.execute(fork, "echo two > file")
    assert await plane.execute(sandbox, "cat file") == "one"
    for each in (sandbox, fork):
        await plane.call("DELETE", f"/sandbox/{each['id']}")
    assert owned.find(plane.state_dir / "controlplane")["images"] == []


async def test_snapshot_of_a_sandbox(plane: Plane, engine: Engine, owned: Owned) -> None:
    sandbox = await plane.create(env={"SECRET": "hidden-value"})
    await plane.execute(sandbox, "echo data > file")
    after = await plane.call("POST", f"/sandbox/{sandbox['id']}/snapshot", json={"name": "mine"})
    assert after["state"] == "started"
    made = await plane.create(snapshot="mine")
    assert await plane.execute(made, "cat file; echo ${SECRET:-none}") == "data\nnone"
    (image,) = owned.find(plane.state_dir / "controlplane")["images"]
    assert "hidden-value" not in engine.call("inspect", image)


async def test_archived_and_restored(plane: Plane, owned: Owned) -> None:
    state = plane.state_dir / "controlplane"
    sandbox = await plane.create(env={"A": "b"})
    for round_ in ("first", "second"):
        await plane.execute(sandbox, f"echo {round_} >> file")
        await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
        await plane.call("POST", f"/sandbox/{sandbox['id']}/archive")
        async with asyncio.timeout(60):
            while (found := await plane.call("GET", f"/sandbox/{sandbox['id']}"))["state"] != "archived":
                assert found["state"] == "archiving", found
                await asyncio.sleep(0.05)
        assert owned.find(state) == {"containers": [], "images": [], "volumes": []}
        await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert await plane.execute(sandbox, "cat file; echo $A; pwd") == "first\nsecond\nb\n/root"
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    assert owned.find(state) == {"containers": [], "images": [], "volumes": []}


async def test_blocked_network(plane: Plane) -> None:
    blocked = await plane.create(networkBlockAll=True)
    assert await plane.execute(blocked, "ls /sys/class/net") == "lo"
    assert blocked["networkBlockAll"] is True
    sandbox = await plane.create()
    assert "eth0" in await plane.execute(sandbox, "ls /sys/class/net")


async def test_outbound_proxy(plane: Plane) -> None:
    sandbox = await plane.create(outboundProxyUrl="http://proxy.test:3128", env={"https_proxy": "http://own.test"})
    assert await plane.execute(sandbox, "echo $HTTP_PROXY $https_proxy") == "http://proxy.test:3128 http://own.test"


async def test_death_shows_with_its_reason(plane: Plane, engine: Engine) -> None:
    sandbox = await plane.create()
    engine.call("kill", container_name(plane.state_dir / "controlplane", sandbox["id"]))
    async with asyncio.timeout(30):
        while (found := await plane.call("GET", f"/sandbox/{sandbox['id']}"))["state"] == "started":
            await asyncio.sleep(0.02)
    assert (found["state"], found["recoverable"]) == ("error", True)
    assert found["errorReason"] == "the sandbox's container ended: exit code 137"
    await plane.call("POST", f"/sandbox/{sandbox['id']}/recover")
    assert await plane.execute(sandbox, "echo back") == "back"


async def test_container_that_somebody_removed(plane: Plane, engine: Engine) -> None:
    sandbox = await plane.create()
    await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    engine.call("rm", container_name(plane.state_dir / "controlplane", sandbox["id"]))
    failed = await plane.call("POST", f"/sandbox/{sandbox['id']}/start", expect=500)
    assert failed["message"] == "the sandbox's container is gone"
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")


async def test_many_at_once(plane: Plane) -> None:
    made = await asyncio.gather(*(plane.create() for _ in range(20)))
    results = await asyncio.gather(*(plane.execute(each, "echo $DAYTONA_SANDBOX_ID") for each in made))
    assert results == [each["id"] for each in made]
    await asyncio.gather(*(plane.call("DELETE", f"/sandbox/{each['id']}") for each in made))


async def test_no_such_user(plane: Plane, owned: Owned) -> None:
    refused = await plane.call("POST", "/sandbox", expect=400, json={"user": "nosuchuser"})
    assert refused["message"] == "user: no such user: nosuchuser in the image"
    assert (await plane.call("GET", "/sandbox"))["items"] == []
    assert owned.find(plane.state_dir / "controlplane")["containers"] == []


async def test_users(plane: Plane) -> None:
    named = await plane.create(user="nobody")
    assert await plane.execute(named, "id -un; cat /run/sandbox-toolbox/token 2>/dev/null || echo unreadable") == (
        "nobody\nunreadable"
    )
    numbered = await plane.create(user="4242:4242")
    assert await plane.execute(numbered, "id -u; id -g") == "4242\n4242"
