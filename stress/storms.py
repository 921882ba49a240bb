"""Clients that come and are cut off, all at once, again and again."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from random import Random

import aiohttp

from stress.consumers import Toolbox
from stress.server import Server

_CLIENTS = 10
_LONGEST = 0.05


async def storms(server: Server, sandbox: str, count: int, random: Random) -> None:
    """Let `count` waves of clients connect, each of them to lose its connection within moments."""
    async with Toolbox(server, sandbox) as toolbox:
        await toolbox.call("POST", "/process/session", {"sessionId": "storm"})
        command = {"command": "while :; do seq 1 100; sleep 0.05; done", "runAsync": True}
        started = await toolbox.call("POST", "/process/session/storm/exec", command)
        await toolbox.call("POST", "/process/pty", {"id": "storm"})
        await toolbox.execute("truncate -s 100000000 hole")
        context = await toolbox.call("POST", "/process/interpreter/context", {})
        run = json.dumps({"code": "import time; time.sleep(5)", "contextId": context["id"]})
        follow = toolbox.path(f"/process/session/storm/command/{started['cmdId']}/logs?follow=true")
        kinds = (
            _websocket(toolbox.path("/process/pty/storm/connect"), "seq 1 1000\n"),
            _websocket(follow),
            _websocket(toolbox.path("/process/interpreter/execute"), run),
            _request("GET", toolbox.path("/files/download?path=hole")),
            _request("POST", toolbox.path("/process/execute"), {"command": "sleep 5"}),
        )
        for _ in range(count):
            async with asyncio.TaskGroup() as group:
                for number in range(_CLIENTS):
                    group.create_task(_cut_off(server, kinds[number % len(kinds)], random.uniform(0, _LONGEST)))
        await toolbox.call("DELETE", f"/process/interpreter/context/{context['id']}")
        await toolbox.call("DELETE", "/process/pty/storm")
        await toolbox.call("DELETE", "/process/session/storm")
        await toolbox.execute("rm hole")


_Kind = Callable[[aiohttp.ClientSession], Awaitable[None]]


def _websocket(path: str, first: str = "") -> _Kind:
    async def connect(http: aiohttp.ClientSession) -> None:
        socket = await http.ws_connect(path)
        if first:
            await socket.send_str(first)
        async for _ in socket:
            pass

    return connect


def _request(method: str, path: str, body: object = None) -> _Kind:
    async def request(http: aiohttp.ClientSession) -> None:
        async with http.request(method, path, json=body) as response:
            await response.read()

    return request


async def _cut_off(server: Server, kind: _Kind, seconds: float) -> None:
    """Connect, and after a moment let the connection go without a word."""
    headers = {"Authorization": f"Bearer {server.api_key}", "X-Daytona-SDK-Version": "0.226.1"}
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with aiohttp.ClientSession(server.origin, headers=headers) as http, asyncio.timeout(seconds):
            await kind(http)
