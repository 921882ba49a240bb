"""Warm pools: made by the API, kept by the cluster, claimed by whoever wants nothing of a pod; many creates at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from daytona_api_client.models.warm_pool import WarmPool

from tests.controlplane.conftest import Plane
from tests.kubernetes.cluster import WAIT_SECONDS, Namespace, eventually
from tests.kubernetes.planes import by_id, in_thread, kubernetes_plane

AT_ONCE = 50
WARM: dict[str, Any] = {
    "name": "mine",
    "env": {"A": "b"},
    "labels": {"team": "x"},
    "public": True,
    "autoStopInterval": 7,
    "autoDeleteInterval": 60,
    "ttlMinutes": 9,
    "snapshot": "default",
    "outboundProxyUrl": "http://proxy.test:1",
}
"""What a sandbox that waits can become."""
COLD: list[dict[str, Any]] = [
    {"cpu": 2},
    {"disk": 2},
    {"user": "1234"},
    {"networkBlockAll": True},
    {"networkAllowList": "10.0.0.0/8"},
    {"otelEndpointOverride": "http://otel.test"},
    {"volumes": [{"volumeId": "shared", "mountPath": "/shared"}]},
]
"""What needs a pod of its own."""


@pytest.fixture
async def plane(tmp_path: Path, namespace: Namespace) -> AsyncIterator[Plane]:
    async with kubernetes_plane(tmp_path / "state", namespace) as found:
        yield found
        for each in (await found.call("GET", "/sandbox"))["items"]:
            await found.call("DELETE", f"/sandbox/{each['id']}")


async def sized(plane: Plane, pool: Any, ready: int) -> Any:
    """Wait until a pool has this many sandboxes, and return it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        [found] = [each for each in await plane.call("GET", "/warm-pools") if each["id"] == pool["id"]]
        if found["currentSize"] == ready:
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def kind_of(namespace: Namespace, sandbox: Any) -> str:
    """Return the kind of what stands for a sandbox."""
    [found] = await in_thread(by_id, namespace, "sandbox,sandboxclaim", sandbox)
    return str(found["kind"])


async def test_pool_from_its_making_to_its_end(plane: Plane, namespace: Namespace) -> None:
    await plane.call("POST", "/volumes", json={"name": "shared"})
    pool = await plane.call("POST", "/warm-pools", 201, json={"snapshot": "default", "pool": 1})
    assert WarmPool.from_dict(pool) is not None
    await plane.call("POST", "/warm-pools", 409, json={"snapshot": "default", "pool": 1})
    await sized(plane, pool, 1)
    assert (await plane.call("GET", "/sandbox"))["items"] == []
    [waiting] = await in_thread(namespace.names, "pod")
    sandbox = await plane.create(**WARM)
    assert await kind_of(namespace, sandbox) == "SandboxClaim"
    assert sandbox["autoDestroyAt"] > sandbox["createdAt"]
    assert {name: sandbox.get(name, WARM["ttlMinutes"]) for name in WARM} == WARM
    assert await plane.execute(sandbox, "echo $A $HTTP_PROXY; hostname; echo kept > file") == (
        f"b http://proxy.test:1\n{waiting}"
    )
    [claim] = await in_thread(by_id, namespace, "sandboxclaim", sandbox)
    assert claim["spec"]["lifecycle"]["shutdownTime"] == f"{sandbox['autoDestroyAt'].partition('.')[0]}Z"
    # It is replaced, and what was claimed is a sandbox like any other.
    await sized(plane, pool, 1)
    settings = {"networkAllowList": "10.0.0.0/8"}
    answer = await plane.call("POST", "/sandbox/mine/network-settings", 400, json=settings)
    assert "only at creation for a sandbox from a warm pool" in answer["message"]
    await plane.call("POST", "/sandbox/mine/network-settings", json={"networkBlockAll": False})
    await plane.call("POST", "/sandbox/mine/stop")
    await plane.call("POST", "/sandbox/mine/resize", json={"cpu": 2})
    await plane.call("POST", "/sandbox/mine/start")
    assert await plane.execute(sandbox, "echo $A; cat file; nproc") == "b\nkept\n2"
    changed = await plane.call("PATCH", f"/warm-pools/{pool['id']}", json={"pool": 0})
    assert changed["pool"] == 0
    await sized(plane, pool, 0)
    assert await kind_of(namespace, await plane.create()) == "Sandbox"
    await plane.call("DELETE", f"/warm-pools/{pool['id']}", 204)
    assert await plane.call("GET", "/warm-pools") == []
    assert await plane.execute(sandbox, "cat file") == "kept"
    await plane.call("DELETE", "/sandbox/mine")
    await in_thread(eventually, lambda: waiting not in namespace.names("pod"))


async def test_what_needs_a_pod_of_its_own(plane: Plane, namespace: Namespace) -> None:
    pool = await plane.call("POST", "/warm-pools", 201, json={"snapshot": "default", "pool": 1})
    await sized(plane, pool, 1)
    made = await asyncio.gather(*(plane.create(**wanted) for wanted in COLD))
    assert {await kind_of(namespace, each) for each in made} == {"Sandbox"}
    assert (await sized(plane, pool, 1))["currentSize"] == 1
    await plane.call("DELETE", f"/warm-pools/{pool['id']}", 204)


async def test_many_at_once(plane: Plane, namespace: Namespace) -> None:
    made = await asyncio.gather(*(plane.create(env={"N": str(number)}) for number in range(AT_ONCE)))
    found = await asyncio.gather(*(plane.execute(each, "echo $N") for each in made))
    assert found == [str(number) for number in range(AT_ONCE)]
    await asyncio.gather(*(plane.call("DELETE", f"/sandbox/{each['id']}") for each in made))
