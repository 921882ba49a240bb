"""Servers of the sandbox for these tests, and clients that send bytes as they are."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from tests.conftest import Daemon

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def bytes_server(converse: Conversation, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve every connection with `converse`; yields the port."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            talks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(talks):
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def saying(answer: bytes, *, heard: list[bytes] | None = None) -> Conversation:
    """Return a conversation that answers every request head with these bytes and then closes."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(head)
        writer.write(answer)
        await writer.drain()

    return converse


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset, as the kernel does for a process that died with unread input."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def app_server(*routes: web.RouteDef, host: str = "127.0.0.1", cancel: bool = False) -> AsyncIterator[int]:
    """Serve an aiohttp application; yields the port."""
    app = web.Application(client_max_size=0)
    app.add_routes(routes)
    runner = web.AppRunner(app, handler_cancellation=cancel, shutdown_timeout=0.1, auto_decompress=False)
    await runner.setup()
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.bind((host, 0))
    await web.SockSite(runner, listening).start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        await runner.cleanup()


async def echo(request: web.Request) -> web.Response:
    """Answer with the request as it arrived."""
    body = await request.content.read()
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": [[name, value] for name, value in request.headers.items()],
            "body": body.decode(),
        }
    )


def port_of(daemon: Daemon) -> int:
    """Return the port a daemon listens on."""
    return int(daemon.url.rpartition(":")[2])


@asynccontextmanager
async def connection(daemon: Daemon) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to the daemon, to speak in bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(daemon), limit=1024 * 1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ask(daemon: Daemon, request: bytes) -> bytes:
    """Send one request with `Connection: close` added and return all that comes back."""
    head, _, body = request.partition(b"\r\n\r\n")
    async with connection(daemon) as (reader, writer):
        writer.write(head + b"\r\nConnection: close\r\n\r\n" + body)
        async with asyncio.timeout(20):
            return await reader.read()


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (names in lower case) and body of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


def envelope(answer: bytes) -> Any:
    """Return the error body of an answer."""
    error = json.loads(parsed(answer)[2])
    assert error.keys() >= {"statusCode", "message", "source", "code", "timestamp", "path", "method"}
    return error
