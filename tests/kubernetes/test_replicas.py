"""Several replicas of the control plane beside each other: what is done at one holds at all."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.controlplane.conftest import Plane
from tests.kubernetes.cluster import Namespace
from tests.kubernetes.replicas import Replica, clients, replicas


@pytest.fixture(scope="module")
def three(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    """Run three replicas for the tests of this module."""
    with replicas(namespace, tmp_path_factory.mktemp("replicas"), 3) as found:
        yield found


@pytest.fixture
async def planes(three: list[Replica]) -> AsyncIterator[list[Plane]]:
    """Return a client of each replica."""
    async with clients(three) as found:
        yield found


async def test_a_life_at_three_replicas(planes: list[Plane]) -> None:
    first, second, third = planes
    box = await first.create(name="wanderer", labels={"a": "1"})
    assert await second.execute(box, "echo kept > file; echo written") == "written"
    await third.call("POST", f"/sandbox/{box['id']}/stop")
    assert (await first.call("GET", "/sandbox/wanderer"))["state"] == "stopped"
    await second.call("POST", f"/sandbox/{box['id']}/start")
    assert await third.execute(box, "cat file") == "kept"
    assert await first.execute(box, "cat file") == "kept"
    await first.call("DELETE", f"/sandbox/{box['id']}")
    for plane in planes:
        await plane.call("GET", f"/sandbox/{box['id']}", 404)
