"""Servers that sandboxes reach through the egress proxy: they tell what arrived."""

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import WSMsgType, web

ALLOWED, OTHER = "127.0.0.2", "127.0.0.3"
"""Addresses that programs do not take for this machine: they go through the proxy."""


@dataclass(frozen=True)
class World:
    """The same server at two addresses, with and without TLS."""

    http_port: int
    https_port: int
    received: list[str]
    """What arrived, all of it as text."""

    def http(self, host: str) -> str:
        return f"http://{host}:{self.http_port}"

    def https(self, host: str) -> str:
        return f"https://{host}:{self.https_port}"


async def _websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(request.headers.get("X-Key", ""))
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def _stream(request: web.Request) -> web.StreamResponse:
    """Answer each chunk of the body as it comes."""
    response = web.StreamResponse()
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk)
    return response


async def _big(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"0123456789abcdef" * 65536 * 4)


@asynccontextmanager
async def world(git_root: Path, secured: ssl.SSLContext | None) -> AsyncIterator[World]:
    """Run the servers. `git_root` is served under /git to who has the password `hunter2`."""
    received: list[str] = []

    async def echo(request: web.Request) -> web.Response:
        body = await request.text()
        received.append(f"{request.raw_path} {dict(request.headers)} {body}")
        return web.json_response({"path": request.raw_path, "headers": dict(request.headers), "body": body})

    @web.middleware
    async def login(request: web.Request, handler: object) -> web.StreamResponse:
        wanted = "Basic " + base64.b64encode(b"user:hunter2").decode()
        if request.path.startswith("/git/") and request.headers.get("Authorization") != wanted:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        return await handler(request)  # type: ignore[operator, no-any-return]

    app = web.Application(middlewares=[login], client_max_size=8 * 1024 * 1024)
    git_root.mkdir(exist_ok=True)
    app.router.add_static("/git", git_root)
    app.router.add_get("/ws", _websocket)
    app.router.add_post("/stream", _stream)
    app.router.add_get("/big", _big)
    app.router.add_route("*", "/{tail:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        ports: list[int] = []
        for context in (None, secured):
            port = 0
            for host in (ALLOWED, OTHER):
                site = web.TCPSite(runner, host, port, ssl_context=context)
                await site.start()
                port = runner.addresses[-1][1]
            ports.append(port)
        yield World(http_port=ports[0], https_port=ports[1], received=received)
    finally:
        await runner.cleanup()
