"""Events over Socket.IO: what is told, to whom, in which order, and what happens to bad connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio
from daytona import AsyncDaytona, DaytonaConfig
from daytona_api_client.models.sandbox import Sandbox

from controlplane import events
from tests.controlplane.conftest import Plane, plane_on
from tests.controlplane.test_accounts import bearing, new_key


class Listener:
    """A client that writes down what it is told."""

    def __init__(self, client: socketio.AsyncClient) -> None:
        self.client = client
        self.heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        client.on("sandbox.created", lambda data: self.heard.put_nowait(("created", data)))
        client.on("sandbox.state.updated", lambda data: self.heard.put_nowait(("updated", data)))

    async def states(self, number: int) -> list[tuple[str, str | None, str]]:
        """Return the next events as (name, state before, state)."""
        async with asyncio.timeout(30):
            return [_short(*await self.heard.get()) for _ in range(number)]


def _short(event: str, data: Any) -> tuple[str, str | None, str]:
    if event == "created":
        return data["name"], None, data["state"]
    assert data["sandbox"]["state"] == data["newState"]
    return data["sandbox"]["name"], data["oldState"], data["newState"]


@asynccontextmanager
async def listening(plane: Plane, token: str, query: str = "") -> AsyncIterator[Listener]:
    client = socketio.AsyncClient(reconnection=False)
    found = Listener(client)
    await client.connect(
        plane.origin + query, socketio_path="/api/socket.io/", auth={"token": token}, transports=["websocket"]
    )
    try:
        yield found
    finally:
        await client.disconnect()


async def refusal(plane: Plane, token: str, query: str = "") -> str:
    """Return why a connection is refused."""
    client, why = socketio.AsyncClient(reconnection=False), asyncio.Queue[Any]()
    client.on("connect_error", why.put_nowait)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(
            plane.origin + query, socketio_path="/api/socket.io/", auth={"token": token}, transports=["websocket"]
        )
    await client.disconnect()
    return str(why.get_nowait())


async def test_every_change_is_told_in_order(plane: Plane) -> None:
    async with listening(plane, plane.api_key) as listener:
        sandbox = await plane.create(name="box")
        _, created = await listener.heard.get()
        assert Sandbox.from_dict(created) is not None
        assert created["toolboxProxyUrl"] == f"{plane.origin}/toolbox"
        assert (created["id"], created["env"]) == (sandbox["id"], {})
        await plane.call("POST", "/sandbox/box/stop")
        await plane.call("POST", "/sandbox/box/start")
        await plane.call("DELETE", "/sandbox/box")
        assert await listener.states(7) == [
            ("box", "creating", "started"),
            ("box", "started", "stopping"),
            ("box", "stopping", "stopped"),
            ("box", "stopped", "starting"),
            ("box", "starting", "started"),
            ("box", "started", "destroying"),
            ("box", "destroying", "destroyed"),
        ]
    async with plane.http.get(plane.origin + "/healthz") as response:
        assert response.status == 200


async def test_only_an_organizations_own(plane: Plane) -> None:
    ours, theirs = await new_key(plane, "ours"), await new_key(plane, "theirs")
    async with (
        listening(plane, ours) as mine,
        listening(plane, theirs) as others,
        listening(plane, plane.api_key, "?organizationId=ours") as acting,
    ):
        await plane.call("POST", "/sandbox", json={"name": "mine"}, headers=bearing(ours))
        await plane.call("POST", "/sandbox", json={"name": "others"}, headers=bearing(theirs))
        for listener, name in ((mine, "mine"), (others, "others"), (acting, "mine")):
            assert await listener.states(2) == [(name, None, "creating"), (name, "creating", "started")]
            assert listener.heard.empty()


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_bad_tokens(plane: Plane, token: str) -> None:
    assert "a valid token is required" in await refusal(plane, token)


async def test_another_organization_is_refused(plane: Plane) -> None:
    key = await new_key(plane, "ours")
    assert "another organization" in await refusal(plane, key, "?organizationId=theirs")


async def test_only_websockets(plane: Plane) -> None:
    for query in ("", "?EIO=4", "?EIO=4&transport=polling", "?EIO=3&transport=websocket"):
        async with plane.http.get(f"{plane.api_url}/socket.io/{query}") as response:
            assert response.status == 400


async def test_who_does_not_log_in_is_cut_off(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOGIN_SECONDS", 0.5)
    async with aiohttp.ClientSession() as stranger:
        async with stranger.ws_connect(f"{plane.api_url}/socket.io/?EIO=4&transport=websocket") as ws:
            assert (await ws.receive()).data.startswith("0{")
            assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


async def test_a_revoked_key_hears_no_more(plane: Plane) -> None:
    key = await new_key(plane, "local")
    async with listening(plane, key) as listener:
        gone = asyncio.Event()
        listener.client.on("disconnect", lambda *_: gone.set())
        await plane.call("DELETE", "/api-keys/ci", 204)
        async with asyncio.timeout(30):
            await gone.wait()


async def test_a_slow_client_is_cut_off(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_WAITING", 2)
    sandbox = await plane.create(name="box")
    async with aiohttp.ClientSession() as slow:
        async with slow.ws_connect(f"{plane.api_url}/socket.io/?EIO=4&transport=websocket", max_msg_size=0) as ws:
            await ws.receive()
            await ws.send_str(f'40{{"token":"{plane.api_key}"}}')
            assert (await ws.receive()).data.startswith("40")
            assert ws._response.connection is not None
            transport = ws._response.connection.transport
            assert transport is not None
            transport.pause_reading()
            # Labels are sent with every event: a few of these fill what the kernel holds.
            await plane.call("PUT", "/sandbox/box/labels", json={"labels": {"big": "x" * 1_000_000}})
            for _ in range(5):
                await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
                await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
            transport.resume_reading()
            async with asyncio.timeout(30):
                while (await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
            assert ws.closed


async def test_open_connections_end_with_the_server(tmp_path: Path) -> None:
    gone = asyncio.Event()
    async with plane_on(tmp_path / "state") as plane:
        client = socketio.AsyncClient(reconnection=False)
        client.on("disconnect", lambda *_: gone.set())
        await client.connect(
            plane.origin, socketio_path="/api/socket.io/", auth={"token": plane.api_key}, transports=["websocket"]
        )
    async with asyncio.timeout(30):
        await gone.wait()
    await client.disconnect()


async def test_sdk_objects_follow(plane: Plane) -> None:
    """What another client does shows in the SDK's object without a question asked."""
    async with AsyncDaytona(DaytonaConfig(api_key=plane.api_key, api_url=plane.api_url)) as daytona:
        sandbox = await daytona.create()
        async with asyncio.timeout(30):
            while not daytona._event_dispatcher.is_connected:
                await asyncio.sleep(0.01)
        await plane.call("POST", f"/sandbox/{sandbox.id}/stop")
        async with asyncio.timeout(30):
            while sandbox.state != "stopped":
                await asyncio.sleep(0.01)
        await daytona.delete(sandbox)
