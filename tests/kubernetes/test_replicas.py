"""Several replicas of the control plane beside each other: what is done at one holds at all."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import socketio

from tests.controlplane.conftest import Plane
from tests.controlplane.test_accounts import bearing, new_key
from tests.kubernetes.cluster import Namespace
from tests.kubernetes.replicas import Replica, clients, everywhere, replicas


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


async def answer(plane: Plane, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """Call the API and return status and answer."""
    async with plane.http.request(method, plane.api_url + path, **options) as response:
        return response.status, await response.json() if await response.read() else None


async def test_a_life_at_three_replicas(planes: list[Plane]) -> None:
    first, second, third = planes
    box = await first.create(name="wanderer", labels={"a": "1"})
    assert await second.execute(box, "echo kept > file; echo written") == "written"
    await third.call("POST", f"/sandbox/{box['id']}/stop")
    assert (await first.call("GET", "/sandbox/wanderer"))["state"] == "stopped"
    await second.call("POST", f"/sandbox/{box['id']}/start")
    for plane in planes:
        assert await plane.execute(box, "cat file") == "kept"
    await first.call("DELETE", f"/sandbox/{box['id']}")
    for plane in planes:
        await plane.call("GET", f"/sandbox/{box['id']}", 404)
        await plane.call("GET", "/sandbox/wanderer", 404)


async def test_all_act_on_one_sandbox_at_once(planes: list[Plane]) -> None:
    box = await planes[0].create()
    path = f"/sandbox/{box['id']}"
    calls = [
        ("POST", f"{path}/stop", {}),
        ("POST", f"{path}/start", {}),
        ("POST", f"{path}/autostop/7", {}),
        ("PUT", f"{path}/labels", {"json": {"labels": {"by": "all"}}}),
        ("POST", f"{path}/public/true", {}),
        ("POST", f"{path}/autodelete/60", {}),
    ]
    answers = await asyncio.gather(
        *(answer(plane, method, where, **options) for method, where, options in calls for plane in planes)
    )
    assert {status for status, _ in answers} <= {200, 409}, answers
    # A label, an interval, a flag: whoever wrote between the others took none of theirs away.
    assert all(status == 200 for status, _ in answers[6:]), answers

    async def settled(plane: Plane) -> Any:
        found = await plane.call("GET", path)
        kept = ("state", "desiredState", "labels", "public", "autoStopInterval", "autoDeleteInterval", "errorReason")
        return {name: found.get(name) for name in kept}

    found = await everywhere(planes, settled)
    assert found.pop("state") in ("started", "stopped")
    assert (found["labels"], found["public"]) == ({"by": "all"}, True)
    assert (found["autoStopInterval"], found["autoDeleteInterval"]) == (7, 60)
    deleted = await asyncio.gather(*(answer(plane, "DELETE", path) for plane in planes))
    assert sorted(status for status, _ in deleted) in ([200, 200, 200], [200, 200, 404], [200, 404, 404]), deleted
    for plane in planes:
        await plane.call("GET", path, 404)


async def test_of_one_name_there_is_one(planes: list[Plane]) -> None:
    answers = await asyncio.gather(
        *(answer(plane, "POST", "/sandbox", json={"name": "only"}) for plane in planes for _ in range(2))
    )
    assert Counter(status for status, _ in answers) == {200: 1, 409: 5}, answers
    (box,) = (found for status, found in answers if status == 200)
    await planes[1].call("DELETE", "/sandbox/only")
    # Its name is free at once, at every replica.
    again = await planes[2].create(name="only")
    assert again["id"] != box["id"]
    for plane in planes:
        assert (await plane.call("GET", "/sandbox/only"))["id"] == again["id"]
    await planes[0].call("DELETE", "/sandbox/only")


async def test_keys_hold_and_end_everywhere(planes: list[Plane]) -> None:
    first, second, third = planes
    key = await new_key(first, "local", name="ci")

    async def status(plane: Plane) -> int:
        return (await answer(plane, "GET", "/sandbox", headers=bearing(key)))[0]

    assert await everywhere(planes, status) == 200
    await second.call("DELETE", "/api-keys/ci", 204)
    assert await everywhere(planes, status) == 401
    # One of the same name, made elsewhere, is not the old one again.
    other = await new_key(third, "local", name="ci")
    assert await everywhere(planes, status) == 401
    await first.call("DELETE", "/api-keys/ci", 204)
    assert key != other


async def test_signed_links_hold_and_end_everywhere(planes: list[Plane]) -> None:
    first, second, third = planes
    box = await first.create()
    await second.execute(box, "echo seen > page; nohup python3 -m http.server 8000 > /dev/null 2>&1 &")
    ports = f"/sandbox/{box['id']}/ports/8000/signed-preview-url"
    link = await first.call("GET", f"{ports}?expiresInSeconds=600")
    path = urlsplit(link["pathUrl"]).path.rstrip("/")

    async def seen(plane: Plane) -> tuple[int, str]:
        async with aiohttp.ClientSession() as stranger, stranger.get(f"{plane.origin}{path}/page") as response:
            return response.status, await response.text() if response.ok else ""

    async with asyncio.timeout(60):
        while (await seen(second))[0] != 200:
            await asyncio.sleep(0.1)
    assert await everywhere(planes, seen) == (200, "seen\n")
    await third.call("POST", f"{ports}/{link['token']}/expire")
    assert (await everywhere(planes, seen))[0] in (401, 404)
    await second.call("DELETE", f"/sandbox/{box['id']}")


async def test_events_come_from_everywhere_and_once(planes: list[Plane]) -> None:
    first, second, third = planes
    heard: list[list[tuple[str, str]]] = [[], [], []]
    listeners = [socketio.AsyncClient() for _ in planes]
    try:
        for listener, plane, events in zip(listeners, planes, heard, strict=True):
            listener.on("sandbox.created", lambda data, to=events: to.append((data["id"], "created")))
            listener.on(
                "sandbox.state.updated", lambda data, to=events: to.append((data["sandbox"]["id"], data["newState"]))
            )
            await listener.connect(
                plane.origin,
                socketio_path="/api/socket.io/",
                auth={"token": plane.api_key},
                transports=["websocket"],
            )
        box = await first.create()
        await second.call("POST", f"/sandbox/{box['id']}/stop")
        await third.call("DELETE", f"/sandbox/{box['id']}")
        expected = ["created", "started", "stopping", "stopped", "destroying", "destroyed"]

        async def states(events: list[tuple[str, str]]) -> list[str]:
            return [state for sandbox_id, state in events if sandbox_id == box["id"]]

        for events in heard:
            async with asyncio.timeout(30):
                while "destroyed" not in await states(events):
                    await asyncio.sleep(0.02)
            assert await states(events) == expected
        await asyncio.sleep(1)  # none comes a second time
        assert [await states(events) for events in heard] == [expected] * 3
    finally:
        for listener in listeners:
            await listener.disconnect()
