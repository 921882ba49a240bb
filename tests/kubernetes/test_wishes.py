"""Every field of a create: honoured, as the cluster's objects and the sandbox itself show, or refused by its name."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from controlplane.lifetimes import Lifetimes
from controlplane.models import CreateSandbox
from tests.controlplane.conftest import Plane
from tests.kubernetes.cluster import Namespace, eventually
from tests.kubernetes.planes import by_id, in_thread, kubernetes_plane, pod_of

HONOURED: dict[str, Any] = {
    "name": "called",
    "snapshot": "default",
    "user": "1234",
    "env": {"A": "it's ü"},
    "labels": {"team": "x"},
    "public": True,
    "target": "here",
    "cpu": 2,
    "memory": 2,
    "disk": 2,
    "networkAllowList": "10.0.0.0/255.0.0.0, 192.0.2.7",
    "outboundProxyUrl": "http://proxy.test:1",
    "otelEndpointOverride": "http://otel.test",
    "autoStopInterval": 7,
    "autoDeleteInterval": 9,
    "queueTimeout": 4,
}
"""Values that come back as they went in, all at once."""
REFUSED: dict[str, Any] = {
    "gpu": 1,
    "gpuType": ["A100"],
    "spot": True,
    "kvm": True,
    "domainAllowList": "example.org",
    "autoPauseInterval": 5,
    "autoArchiveInterval": 8,
    "linkedSandbox": "other",
    "secrets": [{"KEY": "key"}],
}
ELSEWHERE = {
    "networkBlockAll": "test_network, since it excludes networkAllowList",
    "ttlMinutes": "test_time_to_live, since it comes back as a time",
    "volumes": "test_volumes",
    "buildInfo": "test_images",
}


@pytest.fixture
async def plane(tmp_path: Path, namespace: Namespace) -> AsyncIterator[Plane]:
    async with kubernetes_plane(tmp_path / "state", namespace) as found:
        yield found
        for each in (await found.call("GET", "/sandbox"))["items"]:
            await found.call("DELETE", f"/sandbox/{each['id']}")


def test_table_is_complete() -> None:
    names = {each.encode_name for each in msgspec.structs.fields(CreateSandbox)}
    assert names == {*HONOURED, *REFUSED, *ELSEWHERE}


async def test_honoured(plane: Plane, namespace: Namespace) -> None:
    sandbox = await plane.create(**HONOURED)
    assert {name: sandbox[name] for name in HONOURED} == HONOURED
    assert await plane.execute(sandbox, "id -u; echo $A $HTTP_PROXY; echo > ~/mine; nproc") == (
        "1234\nit's ü http://proxy.test:1\n2"
    )
    [made] = await in_thread(by_id, namespace, "sandbox", sandbox)
    assert made["metadata"]["labels"]["sandbox-toolbox.dev/name"] == "called"
    pod = await in_thread(pod_of, namespace, sandbox)
    container = pod["spec"]["containers"][0]
    resources = container["resources"]
    assert {name: resources["limits"][name] for name in ("cpu", "memory")} == {"cpu": "2", "memory": "2Gi"}
    assert resources["limits"]["ephemeral-storage"] == "4Gi"  # the template's
    assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel.test"} in container["env"]
    assert not any("A" in each.values() or "ü" in str(each) for each in container["env"]), "variables show in the pod"
    volume = next(each for each in pod["spec"]["volumes"] if each["name"] == "home")
    home = await in_thread(namespace.get, "persistentvolumeclaim", volume["persistentVolumeClaim"]["claimName"])
    assert home["spec"]["resources"]["requests"]["storage"] == "2Gi"
    [policy] = await in_thread(by_id, namespace, "networkpolicy", sandbox)
    assert [each["ipBlock"]["cidr"] for each in policy["spec"]["egress"][0]["to"]] == ["10.0.0.0/8", "192.0.2.7/32"]
    labels = policy["spec"]["podSelector"]["matchLabels"]
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    assert await in_thread(namespace.names, "pod", f"--selector={selector}") == [pod["metadata"]["name"]]
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    # What belongs to it goes with it.
    await in_thread(eventually, lambda: not by_id(namespace, "pod,networkpolicy,sandbox", sandbox))


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(plane: Plane, name: str) -> None:
    answer = await plane.call("POST", "/sandbox", expect=400, json={name: REFUSED[name]})
    assert name in answer["message"]
    assert (await plane.call("GET", "/sandbox"))["items"] == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("user", {"user": "nobody"}),
        ("cpu", {"cpu": 0}),
        ("disk", {"disk": -1}),
        ("networkAllowList", {"networkAllowList": "example.org"}),
        ("volumes", {"volumes": [{"volumeId": "v", "mountPath": "relative"}]}),
    ],
)
async def test_refused_for_its_value(plane: Plane, name: str, wanted: dict[str, Any]) -> None:
    answer = await plane.call("POST", "/sandbox", expect=400, json=wanted)
    assert name in answer["message"]
    assert (await plane.call("GET", "/sandbox"))["items"] == []


async def test_network(plane: Plane, namespace: Namespace) -> None:
    sandbox = await plane.create(networkBlockAll=True, autoDeleteInterval=0)

    def egress() -> str:
        return str(pod_of(namespace, sandbox)["metadata"]["labels"].get("sandbox-toolbox.dev/egress"))

    async def change(**settings: Any) -> None:
        await plane.call("POST", f"/sandbox/{sandbox['id']}/network-settings", json=settings)

    assert await in_thread(egress) == "closed"
    await change(networkBlockAll=False, networkAllowList="10.0.0.0/8")
    await in_thread(eventually, lambda: egress() == "listed")
    assert len(await in_thread(by_id, namespace, "networkpolicy", sandbox)) == 1
    await change(networkAllowList="")
    await in_thread(eventually, lambda: egress() == "open")
    assert await in_thread(by_id, namespace, "networkpolicy", sandbox) == []
    # An ephemeral sandbox goes when it stops.
    await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    await plane.call("GET", f"/sandbox/{sandbox['id']}", 404)
    await in_thread(eventually, lambda: not by_id(namespace, "sandbox", sandbox))


async def test_what_changes_while_it_is_stopped(plane: Plane, namespace: Namespace) -> None:
    sandbox = await plane.create(name="stopping", env={"A": "b"})
    await plane.execute(sandbox, "echo kept > file")
    await plane.call("POST", "/sandbox/stopping/stop")
    assert await in_thread(by_id, namespace, "pod", sandbox) == []
    await plane.call("POST", "/sandbox/stopping/network-settings", json={"networkBlockAll": True})
    await plane.call("POST", "/sandbox/stopping/resize", json={"cpu": 2, "memory": 2})
    await plane.call("POST", "/sandbox/stopping/resize", 400, json={"disk": 100})
    await plane.call("POST", "/sandbox/stopping/start")
    pod = await in_thread(pod_of, namespace, sandbox)
    assert pod["metadata"]["labels"]["sandbox-toolbox.dev/egress"] == "closed"
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "4Gi"}
    assert await plane.execute(sandbox, "echo $A; cat file") == "b\nkept"
    assert "not start" not in await (await plane.http.get(f"{plane.api_url}/sandbox/stopping/daemon-logs")).text()
    answer = await plane.call("POST", "/sandbox/stopping/resize", 400, json={"memory": 3})
    assert "stop the sandbox first" in answer["message"]


async def test_volumes(plane: Plane, namespace: Namespace) -> None:
    volume = await plane.call("POST", "/volumes", json={"name": "shared"})
    part = {"volumeId": "shared", "mountPath": "/part", "subpath": "some dir/part"}
    one, two = await asyncio.gather(
        plane.create(volumes=[part]), plane.create(volumes=[{"volumeId": "shared", "mountPath": "/all"}])
    )
    assert one["volumes"] == [{**part, "volumeId": volume["id"]}]
    await plane.execute(one, "echo hello > /part/file")
    assert await plane.execute(two, "cat '/all/some dir/part/file'; echo back > '/all/some dir/part/file'") == "hello"
    assert await plane.execute(one, "cat /part/file") == "back"
    await plane.call("DELETE", f"/volumes/{volume['id']}", 400)
    for each in (one, two):
        await plane.call("DELETE", f"/sandbox/{each['id']}")
    await plane.call("DELETE", f"/volumes/{volume['id']}")
    claim = f"volume-{volume['id']}"
    await in_thread(eventually, lambda: claim not in namespace.names("persistentvolumeclaim"))


async def test_images(plane: Plane, namespace: Namespace, image: str) -> None:
    entrypoint = ["sh", "-c", "echo $A > ~/began; sleep 1000"]
    wanted = {"name": "mine", "imageName": image, "entrypoint": entrypoint}
    made, missing = await asyncio.gather(
        plane.call("POST", "/snapshots", json=wanted),
        plane.call("POST", "/snapshots", json={"name": "missing", "imageName": "localhost/no-such:1"}),
    )
    assert await _settled(plane, f"/snapshots/{missing['id']}") == "error"
    reason = (await plane.call("GET", "/snapshots/missing"))["errorReason"]
    async with plane.http.get(f"{plane.api_url}/snapshots/missing/build-logs") as answer:
        assert reason in await answer.text()
    assert "localhost/no-such:1" in reason
    assert "ErrImageNeverPull" in reason
    await plane.call("POST", "/sandbox", 400, json={"snapshot": "missing"})
    assert await _settled(plane, f"/snapshots/{made['id']}") == "active"
    declared = await plane.create(buildInfo={"dockerfileContent": f"FROM {image}\n"}, name="declared")
    sandbox = await plane.create(snapshot="mine", env={"A": "b"})
    script = "until [ -s ~/began ]; do sleep 0.05; done; cat ~/began"
    assert await plane.execute(sandbox, script) == "b"
    assert await _settled(plane, "/sandbox/declared") == "started"
    assert await plane.execute(declared, "echo made") == "made"
    broken = await plane.create(buildInfo={"dockerfileContent": "FROM localhost/no-such:2\n"})
    assert await _settled(plane, f"/sandbox/{broken['id']}") == "build_failed"
    assert "ErrImageNeverPull" in (await plane.call("GET", f"/sandbox/{broken['id']}"))["errorReason"]
    built = {"dockerfileContent": f"FROM {image}\nRUN true\n"}
    assert "buildInfo" in (await plane.call("POST", "/sandbox", 400, json={"buildInfo": built}))["message"]
    # The pods that showed the images are gone.
    ours = "--selector=sandbox-toolbox.dev/id"
    await in_thread(eventually, lambda: not namespace.names("pod", ours))


async def _settled(plane: Plane, path: str) -> str:
    while (state := (await plane.call("GET", path))["state"]) in (
        *("pending", "pulling", "building", "pending_build", "building_snapshot", "creating"),
    ):
        await asyncio.sleep(0.1)
    return str(state)


async def test_time_to_live(tmp_path: Path, namespace: Namespace) -> None:
    async with kubernetes_plane(tmp_path / "state", namespace) as plane:
        sandbox = await plane.create(ttlMinutes=60)
        [made] = await in_thread(by_id, namespace, "sandbox", sandbox)
        whole = f"{sandbox['autoDestroyAt'].partition('.')[0]}Z"
        assert (made["spec"]["shutdownTime"], made["spec"]["shutdownPolicy"]) == (whole, "Delete")
        await plane.call("POST", f"/sandbox/{sandbox['id']}/ttl/0")
        [made] = await in_thread(by_id, namespace, "sandbox", sandbox)
        assert made["spec"].get("shutdownTime") is None
        await plane.call("POST", f"/sandbox/{sandbox['id']}/ttl/60")
    # No control plane runs; an hour is long, so the moment that the cluster acts at is brought forward.
    moment = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    name, patch = f"sandbox-{sandbox['id']}", f'{{"spec": {{"shutdownTime": "{moment}"}}}}'
    await in_thread(namespace.kubectl, "patch", "sandbox", name, "--type=merge", f"--patch={patch}")
    await in_thread(eventually, lambda: not by_id(namespace, "pod", sandbox))
    async with kubernetes_plane(tmp_path / "state", namespace) as plane:
        await plane.call("GET", f"/sandbox/{sandbox['id']}", 404)


async def test_idle_sandboxes_stop(tmp_path: Path, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Lifetimes] = []

    class Kept(Lifetimes):
        def __init__(self, *services: Any) -> None:
            super().__init__(*services)
            found.append(self)

    monkeypatch.setattr("controlplane.app.Lifetimes", Kept)
    async with kubernetes_plane(tmp_path / "state", namespace) as plane:
        sandbox = await plane.create(autoStopInterval=5, autoDeleteInterval=5)
        await found[0].look(datetime.now(UTC) + timedelta(minutes=4))
        assert (await plane.call("GET", f"/sandbox/{sandbox['id']}"))["state"] == "started"
        await found[0].look(datetime.now(UTC) + timedelta(minutes=6))
        assert (await plane.call("GET", f"/sandbox/{sandbox['id']}"))["state"] == "stopped"
        assert await in_thread(by_id, namespace, "pod", sandbox) == []
        await found[0].look(datetime.now(UTC) + timedelta(minutes=6))
        await plane.call("GET", f"/sandbox/{sandbox['id']}", 404)
