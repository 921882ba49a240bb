"""A control plane that is told to stop: what it still does, and what it tells load balancers; its metrics."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.controlplane.conftest import Plane, plane_on
from tests.controlplane.test_accounts import bearing, new_key
from tests.controlplane.test_events import listening


async def asked(plane: Plane, path: str) -> tuple[int, Any, str | None]:
    """Ask on a connection of its own, as a probe does; return status, answer and the header Connection."""
    async with aiohttp.ClientSession(headers=bearing(plane.api_key)) as http, http.get(plane.origin + path) as response:
        return response.status, await response.json(), response.headers.get("Connection")


async def stopping(plane: Plane) -> None:
    """Wait until a control plane says that it stops."""
    async with asyncio.timeout(60):
        while (await asked(plane, "/readyz"))[0] == 200:
            await asyncio.sleep(0.01)


async def test_requests_under_way_end_and_new_ones_are_answered(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with AsyncExitStack() as leaving, aiohttp.ClientSession() as http:
        plane = await leaving.enter_async_context(plane_on(tmp_path / "state", drain_seconds="600"))
        assert await asked(plane, "/readyz") == (200, {"status": "ready"}, None)
        box = await plane.create()
        started = f"touch {gate}.begun; until [ -e {gate} ]; do sleep 0.02; done; echo whole"
        plane.http = http  # the other one ends with the control plane
        headers = bearing(plane.api_key)
        under_way = asyncio.create_task(
            plane.toolbox("POST", box, "/process/execute", json={"command": started}, headers=headers)
        )
        while not gate.with_suffix(".begun").exists():
            await asyncio.sleep(0.01)
        end = asyncio.create_task(leaving.aclose())
        await stopping(plane)
        status, answer, connection = await asked(plane, "/readyz")
        assert (status, answer["code"], connection) == (503, "SERVICE_UNAVAILABLE", "close")
        assert await asked(plane, "/healthz") == (200, {"status": "ok"}, "close")
        status, answer, connection = await asked(plane, f"/api/sandbox/{box['id']}")
        assert (status, answer["state"], connection) == (200, "started", "close")
        gate.touch()
        assert (await under_way)["result"] == "whole\n"
        await end


async def test_what_does_not_end_in_time_is_closed(tmp_path: Path) -> None:
    async with AsyncExitStack() as leaving, aiohttp.ClientSession() as http:
        plane = await leaving.enter_async_context(plane_on(tmp_path / "state", drain_seconds="1"))
        box = await plane.create()
        await plane.toolbox("POST", box, "/process/pty", 201, json={"id": "open"})
        url = f"{plane.origin}/toolbox/{box['id']}/process/pty/open/connect"
        async with http.ws_connect(url, headers=bearing(plane.api_key)) as terminal:
            await terminal.receive()
            end = asyncio.create_task(leaving.aclose())
            await stopping(plane)
            while (message := await terminal.receive()).type != aiohttp.WSMsgType.CLOSE:
                assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
            assert message.data == 1001
        await end


async def test_metrics_are_for_who_runs_the_server(plane: Plane) -> None:
    async def scrape(key: str) -> tuple[int, str]:
        async with plane.http.get(f"{plane.origin}/metrics", headers=bearing(key)) as response:
            return response.status, await response.text()

    await plane.call("GET", "/sandbox")
    status, text = await scrape(plane.api_key)
    assert status == 200
    assert 'toolbox_requests_total{operation="listSandboxes",status="200"} 1.0' in text.splitlines()
    assert "toolbox_requests_under_way 1.0" in text.splitlines()
    assert (await scrape(await new_key(plane, "local", name="prometheus")))[0] == 200
    assert (await scrape(await new_key(plane, "theirs")))[0] == 403
    assert (await scrape("wrong"))[0] == 401


async def test_who_listens_for_events_is_not_waited_for(tmp_path: Path) -> None:
    async with AsyncExitStack() as leaving:
        plane = await leaving.enter_async_context(plane_on(tmp_path / "state", drain_seconds="600"))
        async with listening(plane, plane.api_key):
            await leaving.aclose()
