"""Clients that ask for much and read none of it: what they cost the server's memory."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import aiohttp

from stress.server import Server

_CLIENTS = 4
"""Of each kind."""
_BYTES = 300_000_000
_SAMPLE_SECONDS = 0.1


class Peak:
    """A context: the most memory that the server's toolboxds used together, in bytes."""

    def __init__(self, server: Server) -> None:
        self._measure: Callable[[], int] = lambda: sum(server.memory().values())
        self.before = self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory")

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self.bytes = max(self.bytes, self._measure())

    @property
    def growth(self) -> int:
        """How much more than before, in bytes."""
        return self.bytes - self.before

    def __enter__(self) -> Self:
        self.before = self.bytes = self._measure()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Toolbox:
    """The toolbox of a sandbox, as a plain client sees it: the SDKs' clients cannot stop reading."""

    def __init__(self, server: Server, sandbox: str) -> None:
        self._prefix = f"/toolbox/{sandbox}"
        self._server = server

    async def __aenter__(self) -> Self:
        self.http = aiohttp.ClientSession(
            self._server.origin,
            headers={"Authorization": f"Bearer {self._server.api_key}", "X-Daytona-SDK-Version": "0.226.1"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=300),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    def path(self, rest: str) -> str:
        """Return the path of a route."""
        return self._prefix + rest

    async def call(self, method: str, rest: str, body: Any = None) -> Any:
        """Make a request and return the decoded answer."""
        async with self.http.request(method, self.path(rest), json=body) as response:
            text = await response.text()
            if not response.ok:
                raise RuntimeError(f"{method} {rest}: {response.status} {text[:300]}")
            return json.loads(text) if text else None

    async def execute(self, command: str) -> str:
        """Run a command, which must succeed, and return its output."""
        answer = await self.call("POST", "/process/execute", {"command": command})
        if answer["exitCode"] != 0:
            raise RuntimeError(f"{command}: {answer}")
        return str(answer["result"])


async def stuck_consumers(server: Server, sandbox: str, seconds: float) -> Peak:
    """Let clients of every kind of stream ask and not read, for a while; return what memory that took."""
    async with Toolbox(server, sandbox) as toolbox:
        await toolbox.execute(f"truncate -s {_BYTES} hole")
        await toolbox.call("POST", "/process/session", {"sessionId": "stuck"})
        with Peak(server) as peak:
            async with AsyncExitStack() as stack:
                for kind in (_followers, _viewers, _downloads, _runs, _pictures):
                    await stack.enter_async_context(kind(toolbox))
                await asyncio.sleep(seconds)
                await toolbox.execute("echo still there")
        await toolbox.call("DELETE", "/process/session/stuck")
        await toolbox.execute("rm hole")
    return peak


@asynccontextmanager
async def _followers(toolbox: Toolbox) -> AsyncIterator[None]:
    command = {"command": f"head -c {_BYTES} /dev/zero | tr '\\0' x", "runAsync": True}
    started = await toolbox.call("POST", "/process/session/stuck/exec", command)
    path = toolbox.path(f"/process/session/stuck/command/{started['cmdId']}/logs?follow=true")
    async with AsyncExitStack() as stack:
        for _ in range(_CLIENTS):
            await stack.enter_async_context(toolbox.http.ws_connect(path))
        yield


@asynccontextmanager
async def _viewers(toolbox: Toolbox) -> AsyncIterator[None]:
    await toolbox.call("POST", "/process/pty", {"id": "stuck"})
    path = toolbox.path("/process/pty/stuck/connect")
    try:
        async with AsyncExitStack() as stack:
            viewers = [await stack.enter_async_context(toolbox.http.ws_connect(path)) for _ in range(_CLIENTS)]
            await viewers[0].send_str("yes | head -c 300000000\n")
            yield
    finally:
        await toolbox.call("DELETE", "/process/pty/stuck")


@asynccontextmanager
async def _downloads(toolbox: Toolbox) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for _ in range(_CLIENTS):
            await stack.enter_async_context(toolbox.http.get(toolbox.path("/files/download?path=hole")))
        yield


@asynccontextmanager
async def _runs(toolbox: Toolbox) -> AsyncIterator[None]:
    code = "for _ in range(3000): print('x' * 100_000)"
    async with AsyncExitStack() as stack:
        for _ in range(_CLIENTS):
            context = await toolbox.call("POST", "/process/interpreter/context", {})
            stack.push_async_callback(toolbox.call, "DELETE", f"/process/interpreter/context/{context['id']}")
            run = await stack.enter_async_context(toolbox.http.ws_connect(toolbox.path("/process/interpreter/execute")))
            await run.send_json({"code": code, "contextId": context["id"]})
        yield


@asynccontextmanager
async def _pictures(toolbox: Toolbox) -> AsyncIterator[None]:
    flicker = "while :; do xsetroot -solid red; xsetroot -mod 3 5 -fg red -bg blue; done"
    async with AsyncExitStack() as stack:
        await toolbox.call("POST", "/process/session", {"sessionId": "flicker"})
        stack.push_async_callback(toolbox.call, "DELETE", "/process/session/flicker")
        for _ in range(_CLIENTS):
            path = toolbox.path("/computeruse/screenshot/stream?fps=30")
            await stack.enter_async_context(toolbox.http.ws_connect(path))
        await toolbox.call("POST", "/process/session/flicker/exec", {"command": flicker, "runAsync": True})
        yield
