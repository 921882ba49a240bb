"""Replicas that are killed and stopped: no sandbox is lost, none is left over, and the others go on."""

import asyncio
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.controlplane.conftest import Plane
from tests.kubernetes.cluster import Namespace
from tests.kubernetes.replicas import Replica, clients, everywhere, replicas

IN_TRANSITION = {"creating", "starting", "stopping", "destroying", "resizing", "pending_build", "building_snapshot"}
MARK = "sandbox-toolbox.dev/sandbox"


@pytest.fixture
def three(namespace: Namespace, tmp_path: Path) -> Iterator[list[Replica]]:
    """Run three replicas that a test may end."""
    with replicas(namespace, tmp_path, 3) as found:
        yield found


def leader(namespace: Namespace) -> str:
    """Return which replica leads, empty for none."""
    leases = json.loads(namespace.kubectl("get", "leases", "--output=json"))["items"]
    return next(
        (each["spec"]["holderIdentity"] for each in leases if each["metadata"]["name"] == "sandbox-toolbox-leader"), ""
    )


def objects(namespace: Namespace) -> dict[str, set[str]]:
    """Return, of each kind, the ids of the sandboxes that there are objects for."""
    kinds = ("sandboxes", "sandboxclaims", "pods", "persistentvolumeclaims", "networkpolicies", "configmaps")
    found: dict[str, set[str]] = {kind: set() for kind in kinds}
    for each in json.loads(namespace.kubectl("get", ",".join(kinds), "--output=json"))["items"]:
        metadata, kind = each["metadata"], each["kind"].lower()
        plural = {"sandbox": "sandboxes", "networkpolicy": "networkpolicies"}.get(kind, f"{kind}s")
        name = metadata["name"].removeprefix("home-")
        sandbox_id = metadata.get("labels", {}).get(MARK) or (name[8:] if name.startswith("sandbox-") else "")
        if sandbox_id:
            found[plural].add(sandbox_id)
    return found


class World:
    """Clients that do things at random, and what they know after each answer."""

    def __init__(self, planes: list[Plane], seed: int) -> None:
        self.planes = planes
        self.random = random.Random(seed)
        self.there: dict[str, bool] = {}
        """Id of a sandbox whose create was answered -> whether somebody asked for its end, unanswered so far."""
        self.answered: list[tuple[str, int]] = []

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Call a replica at random; 0 is the status of no answer."""
        plane = self.random.choice(self.planes)
        try:
            async with plane.http.request(method, plane.api_url + path, **options) as response:
                text = await response.text()
                self.answered.append((f"{method} {path}", response.status))
                return response.status, json.loads(text) if text else None
        except (aiohttp.ClientError, OSError):
            return 0, None

    async def act(self, number: int) -> None:
        """Do one thing after another."""
        for step in range(8):
            if step == 0 or not self.there or self.random.random() < 0.3:
                body = {"name": f"box-{number}-{step}"} if self.random.random() < 0.7 else {}
                status, box = await self.call("POST", "/sandbox", json=body)
                if status == 200:
                    self.there[box["id"]] = False
                continue
            path, target = "", self.random.choice(list(self.there))
            match self.random.randrange(5):
                case 0:
                    path = "/stop?force=true"
                case 1:
                    path = "/start"
                case 2:
                    path = f"/autostop/{number + 1}"
                case 3:
                    await self.call("PUT", f"/sandbox/{target}/labels", json={"labels": {"by": str(number)}})
                    continue
                case 4:
                    self.there[target] = True
                    status, _ = await self.call("DELETE", f"/sandbox/{target}")
                    if status in (200, 404):
                        self.there.pop(target, None)
                    continue
            await self.call("POST", f"/sandbox/{target}{path}")


@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_when_replicas_are_killed(namespace: Namespace, three: list[Replica], seed: int) -> None:
    async with clients(three) as planes:
        world = World(planes, seed)
        chance = random.Random(seed)

        async def kill_some() -> None:
            for _ in range(3):
                await asyncio.sleep(chance.uniform(1, 4))
                victim = chance.choice(three)
                await asyncio.to_thread(victim.kill)
                await asyncio.sleep(chance.uniform(0, 2))
                await asyncio.to_thread(victim.start)

        async with asyncio.TaskGroup() as group:
            group.create_task(kill_some())
            for number in range(4):
                group.create_task(world.act(number))
        assert {status for _, status in world.answered} <= {200, 404, 409, 503}, world.answered

        async def known(plane: Plane) -> dict[str, Any]:
            listed = await plane.call("GET", "/sandbox?limit=100")
            items = listed["items"] if isinstance(listed, dict) else listed
            return {each["id"]: (each["name"], each["state"], each["labels"]) for each in items}

        async with asyncio.timeout(120):
            while any(state in IN_TRANSITION for _, state, _ in (await everywhere(planes, known)).values()):
                await asyncio.sleep(0.5)
        found = await everywhere(planes, known)
        lost = {each for each, ended in world.there.items() if not ended} - set(found)
        assert not lost, "a sandbox is lost"
        assert {state for _, state, _ in found.values()} <= {"started", "stopped", "error"}, found
        for plane in planes:
            for sandbox_id, (_, state, _) in found.items():
                if state == "started":
                    assert await plane.execute({"id": sandbox_id}, "echo here") == "here"
        running = {sandbox_id for sandbox_id, (_, state, _) in found.items() if state == "started"}
        named = {sandbox_id for sandbox_id, (name, _, _) in found.items() if name != sandbox_id}

        def left() -> dict[str, set[str]]:
            there = objects(namespace)
            return {
                "sandboxes": there["sandboxes"] ^ set(found),
                "homes": there["persistentvolumeclaims"] ^ set(found),
                "pods": there["pods"] ^ running,
                "names": there["configmaps"] ^ named,
            }

        async with asyncio.timeout(150):
            while any(left().values()):
                await asyncio.sleep(1)


async def leader_beside(namespace: Namespace, *others: str) -> str:
    """Return which replica leads, once it is none of these."""
    async with asyncio.timeout(60):
        while (found := await asyncio.to_thread(leader, namespace)) in ("", *others):
            await asyncio.sleep(0.1)
    return found


async def test_another_leads_when_the_leader_dies_or_is_stopped(namespace: Namespace, three: list[Replica]) -> None:
    def led_by(name: str) -> Replica:
        (found,) = (each for each in three if f'"replica": "{name}"' in each.log or f'"replica":"{name}"' in each.log)
        return found

    first = await leader_beside(namespace)
    led_by(first).kill()
    second = await leader_beside(namespace, first)
    told = led_by(second).log
    assert "this replica leads" in told
    led_by(second).stop()
    # Its lease is let go of, not left to run out: as soon as it has ended it leads no more.
    assert leader(namespace) != second
    third = await leader_beside(namespace, first, second)
    assert led_by(third) not in (led_by(first), led_by(second))
    leases = namespace.names("lease")
    assert f"sandbox-toolbox-replica-{second}" not in leases
    assert f"sandbox-toolbox-replica-{third}" in leases


async def test_what_is_under_way_ends_well_at_a_replica_that_stops(namespace: Namespace, tmp_path: Path) -> None:
    with replicas(namespace, tmp_path, 2, **{"drain-seconds": "60"}) as two:
        async with clients(two) as (first, second):
            box = await second.create()
            await second.execute(box, "true")
            url = f"{first.origin}/toolbox/{box['id']}/process/pty"
            async with first.http.post(url, json={"id": "open"}) as response:
                assert response.status == 201, await response.text()
            async with first.http.ws_connect(f"{url}/open/connect") as terminal:
                await terminal.receive()
                under_way = asyncio.create_task(first.execute(box, "touch begun; sleep 5; echo whole"))
                creating = asyncio.create_task(first.create())
                async with asyncio.timeout(60):
                    while await second.execute(box, "ls") != "begun":
                        await asyncio.sleep(0.05)
                two[0].signal(signal.SIGTERM)
                assert await under_way == "whole"
                made = await creating
                await terminal.send_str("exit\n")
                async for _ in terminal:
                    pass
                assert terminal.close_code in (1000, 1001)
            assert await asyncio.to_thread(two[0].wait_for_end) == 0
            assert await second.execute(made, "echo here") == "here"
            for each in (box, made):
                await second.call("DELETE", f"/sandbox/{each['id']}")
