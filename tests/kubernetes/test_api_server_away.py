"""The API server is away for a while: what runs goes on, and nobody is told what is not so."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.controlplane.conftest import Plane
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.replicas import Replica, clients, everywhere, replicas

pytestmark = pytest.mark.disruptive


@pytest.fixture(scope="module")
def two(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    """Run two replicas for the tests of this module."""
    with replicas(namespace, tmp_path_factory.mktemp("replicas"), 2) as found:
        yield found


@pytest.fixture
async def planes(two: list[Replica]) -> AsyncIterator[list[Plane]]:
    """Return a client of each replica."""
    async with clients(two) as found:
        yield found


async def test_what_runs_goes_on(two: list[Replica], planes: list[Plane], cluster: Cluster) -> None:
    first, second = planes
    box = await first.create(name="runs")
    stopped = await first.create(name="stops")
    await second.call("POST", f"/sandbox/{stopped['id']}/stop?force=true")
    with cluster.killed("kube-apiserver"):
        for plane in planes:
            assert await plane.execute(box, "echo here") == "here"
            listed = {each["name"]: each["state"] for each in (await plane.call("GET", "/sandbox"))["items"]}
            assert listed == {"runs": "started", "stops": "stopped"}
            assert (await plane.call("GET", "/sandbox/runs"))["state"] == "started"
            answers = [
                await plane.call("POST", "/sandbox", 503, json={"name": "new"}),
                await plane.call("POST", f"/sandbox/{stopped['id']}/start", 503),
                await plane.call("DELETE", f"/sandbox/{box['id']}", 503),
                await plane.call("PUT", f"/sandbox/{box['id']}/labels", 503, json={"labels": {"a": "b"}}),
                await plane.call("GET", "/sandbox/unknown", 503),
            ]
            assert all("the API server" in each["message"] for each in answers), answers
        # Longer than a lease lasts: when it is back nobody may take the others for dead.
        await asyncio.sleep(16)

    async def known(plane: Plane) -> Any:
        return {each["name"]: each["state"] for each in (await plane.call("GET", "/sandbox"))["items"]}

    assert await everywhere(planes, known) == {"runs": "started", "stops": "stopped"}

    async def writes(plane: Plane) -> int:
        path = f"{plane.api_url}/sandbox/{box['id']}/labels"
        async with plane.http.put(path, json={"labels": {"a": "b"}}) as response:
            return response.status

    assert await everywhere(planes, writes) == 200
    assert (await second.call("POST", f"/sandbox/{stopped['id']}/start"))["state"] == "started"
    assert await first.execute(stopped, "echo here") == "here"
    for each in (box, stopped):
        await second.call("DELETE", f"/sandbox/{each['id']}")
    assert await everywhere(planes, known) == {}
    for replica in two:
        assert "taking over" not in replica.log
        assert "Traceback" not in replica.log, replica.log


async def test_a_kubelet_that_has_stopped(planes: list[Plane], cluster: Cluster) -> None:
    first, second = planes
    box = await first.create()
    with cluster.stopped("kubelet"):
        assert await second.execute(box, "echo here") == "here"
        # Its pod cannot be ended now, but the sandbox can: the rest follows.
        await second.call("DELETE", f"/sandbox/{box['id']}")
        await first.call("GET", f"/sandbox/{box['id']}", 404)
        creating = asyncio.create_task(first.create(name="waits"))
        await asyncio.sleep(1)
        assert not creating.done()
    made = await creating
    assert await second.execute(made, "echo here") == "here"
    await first.call("DELETE", f"/sandbox/{made['id']}")
