"""Warm pools: filled, claimed, changed, drained, and what they never serve."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daytona_api_client.models.warm_pool import WarmPool

from tests.controlplane.conftest import Plane, plane_on


async def sized(plane: Plane, ready: int) -> dict[str, Any]:
    """Wait until the only pool has this many sandboxes, and return it."""
    async with asyncio.timeout(20):
        while True:
            [pool] = await plane.call("GET", "/warm-pools")
            if pool["currentSize"] == ready:
                return dict(pool)
            await asyncio.sleep(0.01)


async def make(plane: Plane, size: int) -> dict[str, Any]:
    """Make the pool of the default snapshot and wait until it is full."""
    await plane.call("POST", "/warm-pools", 201, json={"snapshot": "default", "pool": size})
    return await sized(plane, size)


def waiting(plane: Plane) -> set[str]:
    """Return the ids of all sandboxes that have a directory."""
    return set(os.listdir(plane.state_dir / "controlplane/sandboxes"))


async def emptied(plane: Plane) -> None:
    """Wait until nothing is left of any sandbox."""
    async with asyncio.timeout(30):
        while waiting(plane):
            await asyncio.sleep(0.01)


async def test_create_is_served_from_a_pool(plane: Plane) -> None:
    pool = await make(plane, 2)
    assert WarmPool.from_dict(pool) is not None
    ready = waiting(plane)
    assert (await plane.call("GET", "/sandbox"))["items"] == []
    assert (await plane.call("GET", "/sandbox/paginated"))["total"] == 0
    wanted = {"name": "mine", "labels": {"a": "b"}, "autoStopInterval": 7, "autoDeleteInterval": 60, "ttlMinutes": 9}
    named = await plane.create(**wanted, public=True)
    unnamed = await plane.create()
    assert {named["id"], unnamed["id"]} <= ready | waiting(plane)
    assert named["id"] in ready
    assert (named["name"], named["labels"], named["autoStopInterval"]) == ("mine", {"a": "b"}, 7)
    assert (named["autoDeleteInterval"], named["autoArchiveInterval"], named["public"]) == (60, 10_080, True)
    assert "warmPoolId" not in named
    assert named["autoDestroyAt"] > named["createdAt"]
    assert unnamed["name"] == unnamed["id"]
    assert await plane.execute(named, "echo warm") == "warm"
    listed = (await plane.call("GET", "/sandbox"))["items"]
    assert {each["id"] for each in listed} == {named["id"], unnamed["id"]}
    await sized(plane, 2)  # filled again
    await plane.call("DELETE", "/sandbox/mine")


@pytest.mark.parametrize("wanted", [{"env": {"A": "b"}}, {"target": "elsewhere"}])
async def test_wishes_are_not_served_from_a_pool(plane: Plane, wanted: Any) -> None:
    await make(plane, 1)
    ready = waiting(plane)
    assert (await plane.create(**wanted))["id"] not in ready
    await sized(plane, 1)


async def test_many_at_once_and_a_taken_name(plane: Plane) -> None:
    await make(plane, 2)
    made = await asyncio.gather(*(plane.create(name=f"box-{number}") for number in range(5)))
    assert len({each["id"] for each in made}) == 5
    await sized(plane, 2)
    ready = waiting(plane)
    await plane.call("POST", "/sandbox", 409, json={"name": "box-0"})
    assert waiting(plane) == ready
    assert (await plane.create(name="box-5"))["id"] in ready


async def test_one_pool_for_each_snapshot(plane: Plane) -> None:
    pool = await make(plane, 1)
    await plane.call("POST", "/warm-pools", 409, json={"snapshot": "default", "pool": 1})
    for size in (0, -1, 101):
        await plane.call("POST", "/warm-pools", 400, json={"snapshot": "default", "pool": size})
    await plane.call("PATCH", f"/warm-pools/{pool['id']}", 400, json={"pool": -1})
    await plane.call("PATCH", "/warm-pools/none", 404, json={"pool": 1})
    changed = await plane.call("PATCH", f"/warm-pools/{pool['id']}", json={"pool": 2})
    assert changed["pool"] == 2
    await sized(plane, 2)
    await plane.call("PATCH", f"/warm-pools/{pool['id']}", json={"pool": 0})
    await sized(plane, 0)
    await emptied(plane)
    await plane.call("PATCH", f"/warm-pools/{pool['id']}", json={"pool": 1})
    await sized(plane, 1)
    await plane.call("DELETE", f"/warm-pools/{pool['id']}", 204)
    await plane.call("DELETE", f"/warm-pools/{pool['id']}", 404)
    await emptied(plane)
    assert await plane.call("GET", "/warm-pools") == []


async def test_what_dies_in_a_pool_is_replaced(plane: Plane, processes_of: Callable[[Path], list[int]]) -> None:
    await make(plane, 1)
    [dead] = waiting(plane)
    for pid in processes_of(plane.home({"id": dead})):
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while waiting(plane) == {dead} or (await plane.call("GET", "/warm-pools"))[0]["currentSize"] != 1:
            await asyncio.sleep(0.01)
    assert await plane.execute(await plane.create(), "echo alive") == "alive"


async def test_pools_survive_a_restart(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state") as plane:
        await make(plane, 2)
        before = waiting(plane)
    async with plane_on(tmp_path / "state") as plane:
        await sized(plane, 2)
        async with asyncio.timeout(20):
            while len(waiting(plane)) != 2:
                await asyncio.sleep(0.01)
        assert not waiting(plane) & before
        assert await plane.execute(await plane.create(), "echo warm") == "warm"


async def test_a_pool_that_cannot_be_filled_says_why(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = plane.state_dir / "controlplane/sandboxes"
    directory.rmdir()
    directory.write_text("")  # no sandbox can be made
    await plane.call("POST", "/warm-pools", 201, json={"snapshot": "default", "pool": 1})
    async with asyncio.timeout(30):
        while "errorReason" not in (pool := (await plane.call("GET", "/warm-pools"))[0]):
            await asyncio.sleep(0.01)
    assert "directories" in pool["errorReason"]
    directory.unlink()
    directory.mkdir()
    await plane.call("PATCH", f"/warm-pools/{pool['id']}", json={"pool": 1})  # tries again at once
    assert "errorReason" not in await sized(plane, 1)
