"""What happens to sandboxes in a cluster: their pods end, nodes and quotas refuse them, objects are damaged."""

import asyncio
import copy
import json
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from tests.controlplane.conftest import Plane
from tests.kubernetes.cluster import Namespace
from tests.kubernetes.replicas import Replica, clients, everywhere, replicas


@pytest.fixture(scope="module")
def two(
    namespace: Namespace, template: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Replica]]:
    """Run two replicas: one soon gives up on sandboxes that do not start, and gives them little memory."""
    small = copy.deepcopy(template)
    small["metadata"]["name"] = "small"
    pod = small["spec"]["podTemplate"]["spec"]
    pod["containers"][0]["resources"]["limits"]["memory"] = "200Mi"
    pod["containers"][0]["volumeMounts"].append({"name": "memory", "mountPath": "/memory"})
    pod["volumes"].append({"name": "memory", "emptyDir": {"medium": "Memory"}})
    namespace.apply(small)
    directory = tmp_path_factory.mktemp("replicas")
    with (
        replicas(namespace, directory, 1) as patient,
        replicas(namespace, directory / "other", 1, template="small", **{"start-seconds": "15"}) as impatient,
    ):
        yield patient + impatient


@pytest.fixture
async def planes(two: list[Replica]) -> AsyncIterator[list[Plane]]:
    """Return a client of each replica."""
    async with clients(two) as found:
        yield found


@pytest.fixture
async def plane(planes: list[Plane]) -> Plane:
    """Return a client of one of them."""
    return planes[0]


async def state_of(plane: Plane, box: Any) -> tuple[str, str | None]:
    """Return the state of a sandbox, and the reason of an error."""
    found = await plane.call("GET", f"/sandbox/{box['id']}")
    return found["state"], found.get("errorReason")


async def error_of(planes: list[Plane], box: Any) -> str:
    """Return why a sandbox is in error, once all replicas say so."""
    async with asyncio.timeout(60):
        while (found := await everywhere(planes, lambda plane: state_of(plane, box)))[0] != "error":
            await asyncio.sleep(0.05)
    assert found[1] is not None
    return found[1]


async def ids(plane: Plane) -> set[str]:
    """Return the ids of all sandboxes."""
    return {each["id"] for each in (await plane.call("GET", "/sandbox?limit=100"))["items"]}


async def refusal(plane: Plane, status: int, **wanted: Any) -> str:
    """Return why no sandbox can be made; none of it may be left."""
    before = await ids(plane)
    answer = await plane.call("POST", "/sandbox", status, json=wanted)
    assert await ids(plane) == before
    return str(answer["message"])


def pod_of(box: Any) -> str:
    """Return the name of the pod of a sandbox that was not from a warm pool."""
    return f"sandbox-{box['id']}"


async def recovered(plane: Plane, box: Any) -> None:
    """Recover a sandbox, which has to have its home as it was, and delete it."""
    await plane.call("POST", f"/sandbox/{box['id']}/recover")
    assert await plane.execute(box, "cat file") == "kept"
    await plane.call("DELETE", f"/sandbox/{box['id']}")


@pytest.mark.parametrize("how", ["deleted", "evicted", "killed"])
async def test_its_pod_ends(planes: list[Plane], namespace: Namespace, how: str) -> None:
    box = await planes[0].create()
    await planes[1].execute(box, "echo kept > file")
    match how:
        case "deleted":
            namespace.kubectl("delete", "pod", pod_of(box), "--wait=false")
            assert "its pod was removed" in await error_of(planes, box)
        case "evicted":
            namespace.evict(pod_of(box))
            assert "Eviction API: evicting" in await error_of(planes, box)
        case "killed":
            namespace.kubectl("exec", pod_of(box), "--", "sh", "-c", "kill -TERM 1")
            assert "its daemon ended: exit code" in await error_of(planes, box)
    for plane in planes:
        await plane.toolbox("GET", box, "/version", 409)
    await recovered(planes[1], box)


async def test_out_of_memory(planes: list[Plane]) -> None:
    patient, impatient = planes
    box = await impatient.create()
    await patient.execute(box, "echo kept > file")
    session = f"{patient.origin}/toolbox/{box['id']}/process/session"
    async with patient.http.post(session, json={"sessionId": "eater"}) as response:
        assert response.status == 201
    # What files take is nobody's: programs are ended one after another, until it is the daemon's turn.
    command = "while :; do head -c 10M /dev/zero >> /memory/file; done"
    await patient.toolbox("POST", box, "/process/session/eater/exec", 202, json={"command": command, "runAsync": True})
    assert "out of memory" in await error_of(planes, box)
    await recovered(patient, box)


async def test_no_node_takes_it(planes: list[Plane]) -> None:
    reason = await refusal(planes[1], 500, cpu=1000)
    assert "no node takes its pod" in reason
    assert "Insufficient cpu" in reason


async def test_quotas(plane: Plane, namespace: Namespace) -> None:
    box = await plane.create()
    await plane.execute(box, "echo kept > file")
    await plane.call("POST", f"/sandbox/{box['id']}/stop?force=true")
    with namespace.quota(pods="0"):
        assert "exceeded quota: limit" in await refusal(plane, 500)
        answer = await plane.call("POST", f"/sandbox/{box['id']}/start", 500)
        assert "exceeded quota: limit" in answer["message"]
        assert (await state_of(plane, box))[0] == "error"
    await recovered(plane, box)
    with namespace.quota(**{"count/sandboxes.agents.x-k8s.io": "0"}):
        assert "exceeded quota: limit" in await refusal(plane, 403, name="none")
    # The name of what could not be made is free.
    box = await plane.create(name="none")
    await plane.call("DELETE", f"/sandbox/{box['id']}")


async def test_strangers_and_damage(planes: list[Plane], namespace: Namespace) -> None:
    first, second = planes
    box, other = await first.create(name="ours"), await first.create(name="gone")
    labels = {"app.kubernetes.io/managed-by": "sandbox-toolbox"}
    spec = {"operatingMode": "Suspended", "podTemplate": {"spec": {"containers": [{"name": "it", "image": "it"}]}}}
    made = {"apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "spec": spec}
    mark = "sandbox-toolbox.dev/sandbox"
    for name, id_ in (("stranger", "stranger"), ("sandbox-stranger", "stranger"), ("thief", box["id"])):
        namespace.apply({**made, "metadata": {"name": name, "labels": {**labels, mark: id_}}})
    for kind in ("grant", "sandbox_name", "snapshot", "volume"):
        more = {"sandbox-toolbox.dev/kind": kind, "sandbox-toolbox.dev/id": "damaged", mark: box["id"]}
        metadata = {"name": f"damaged-{kind.replace('_', '-')}", "labels": {**labels, **more}}
        namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"document": "{"}})
    names = [each["name"] for each in (await second.call("GET", "/sandbox?limit=100"))["items"]]
    assert {"gone", "ours"} <= set(names)
    assert not {"stranger", "thief"} & set(names)
    assert await second.execute(box, "echo here") == "here"
    await second.call("GET", "/snapshots")
    await second.call("GET", "/volumes")

    # The record is damaged: what is known of it is written again with the next change.
    damage = "sandbox-toolbox.dev/record={"
    namespace.kubectl("annotate", "--overwrite", "sandbox", f"sandbox-{box['id']}", damage)
    await second.call("PUT", f"/sandbox/{box['id']}/labels", json={"labels": {"a": "b"}})
    annotations = namespace.get("sandbox", f"sandbox-{box['id']}")["metadata"]["annotations"]
    assert json.loads(annotations["sandbox-toolbox.dev/record"])["labels"] == {"a": "b"}

    # The object is removed by hand: the sandbox is gone, and its name is free.
    namespace.kubectl("delete", "sandbox", f"sandbox-{other['id']}", "--wait=false")

    async def status(plane: Plane) -> int:
        async with plane.http.get(f"{plane.api_url}/sandbox/{other['id']}") as response:
            return response.status

    assert await everywhere(planes, status) == 404
    async with asyncio.timeout(30):
        while True:
            async with first.http.post(f"{first.api_url}/sandbox", json={"name": "gone"}) as response:
                if response.status == 200:
                    break
            await asyncio.sleep(0.1)
    for name in ("ours", "gone"):
        await second.call("DELETE", f"/sandbox/{name}")


async def test_a_daemon_that_somebody_else_has_taken(
    two: list[Replica], planes: list[Plane], namespace: Namespace
) -> None:
    plane = planes[0]
    box = await plane.create()
    await plane.call("POST", f"/sandbox/{box['id']}/stop?force=true")
    starting = asyncio.create_task(plane.call("POST", f"/sandbox/{box['id']}/start", 500))
    name = pod_of(box)
    async with asyncio.timeout(60):
        while namespace.cluster.try_kubectl("-n", namespace.name, "get", "pod", name).returncode:
            await asyncio.sleep(0.05)
    for replica in two:
        replica.signal(signal.SIGSTOP)
    try:
        await asyncio.to_thread(namespace.wait, "pod", name, until="condition=Ready")
        address = namespace.get("pod", name)["status"]["podIP"]
        async with aiohttp.ClientSession() as http:
            async with http.post(f"http://{address}:2280/init", json={"token": "t" * 40}) as response:
                assert response.status == 200, await response.text()
    finally:
        for replica in two:
            replica.signal(signal.SIGCONT)
    assert "taken into use by somebody else" in (await starting)["message"]
    await plane.call("POST", f"/sandbox/{box['id']}/recover")
    await plane.call("DELETE", f"/sandbox/{box['id']}")
