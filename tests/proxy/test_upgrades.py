"""Websockets and other upgraded connections through the proxy."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from tests.conftest import Daemon, run_daemon
from tests.proxy.servers import app_server, ask, bytes_server, connection, parsed, port_of, reset, saying
from toolbox.config import ServeConfig

MIB = 1024 * 1024
CHUNK = bytes(range(256)) * 1024
TOKEN = "t0ken-of-this-test"


class Sockets:
    """A websocket server of the sandbox."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.received: list[object] = []
        self.ended = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Echo; obey a few words."""
        self.requests.append(request)
        offered = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if each]
        socket = web.WebSocketResponse(protocols=offered, max_msg_size=0, autoping=False)
        socket.headers["Set-Cookie"] = "a=b"
        await socket.prepare(request)
        await socket.send_str("welcome")
        async for message in socket:
            self.received.append(message.data)
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.data == "bye":
                await socket.close(code=4321, message=b"as agreed")
            elif message.data == "die":
                assert request.transport is not None
                request.transport.abort()
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        self.received.append(socket.close_code)
        self.ended.set()
        return socket


@asynccontextmanager
async def opened(
    daemon: Daemon, host: str = "127.0.0.1", query: str = "", **options: object
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse[bool], Sockets]]:
    """Run a websocket server and connect to it through the daemon."""
    server = Sockets()
    async with app_server(web.get("/ws", server.serve), host=host) as port, asyncio.timeout(30):
        url = f"/proxy/{port}/ws{query}"
        async with daemon.http.ws_connect(url, max_msg_size=0, **options) as socket:  # type: ignore[call-overload]
            assert await socket.receive_str() == "welcome"
            yield socket, server


@pytest.mark.parametrize("compress", [0, 15])
async def test_messages_of_every_size_both_ways(daemon: Daemon, compress: int) -> None:
    async with opened(daemon, compress=compress) as (socket, server):
        for size in (0, 1, 125, 126, 65535, 65536, 5 * MIB):
            await socket.send_bytes(bytes(size))
            assert await socket.receive_bytes() == bytes(size)
        await socket.send_str("é")
        assert await socket.receive_str() == "é"
        assert bool(socket.compress) is bool(compress)
        assert server.requests[0].headers["Host"].startswith("localhost:")


async def test_subprotocols_are_the_two_ends_affair(daemon: Daemon) -> None:
    offered = ("X-Daytona-SDK-Version~1.2.3", "graphql-ws", "b64.e30")
    async with opened(daemon, protocols=offered) as (socket, server):
        assert socket.protocol == offered[0]
        assert [each.strip() for each in server.requests[0].headers["Sec-WebSocket-Protocol"].split(",")] == [*offered]


async def test_pings_are_answered_by_the_other_end(daemon: Daemon) -> None:
    async with opened(daemon, autoping=False) as (socket, server):
        await socket.ping(b"you there")
        message = await socket.receive()
        assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"you there")
        assert server.received == [b"you there"]


async def test_the_servers_close_code_and_reason(daemon: Daemon) -> None:
    async with opened(daemon) as (socket, _):
        await socket.send_str("bye")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4321, "as agreed")


async def test_the_clients_close_code(daemon: Daemon) -> None:
    async with opened(daemon) as (socket, server):
        await socket.close(code=4000)
        await server.ended.wait()
        assert server.received == [4000]


async def test_a_client_that_vanishes(daemon: Daemon) -> None:
    server = Sockets()
    async with app_server(web.get("/ws", server.serve)) as port, asyncio.timeout(30):
        async with connection(daemon) as (reader, writer):
            writer.write(handshake(port))
            await reader.readuntil(b"welcome")
        await server.ended.wait()


async def test_a_server_that_dies_is_a_close_code(daemon: Daemon) -> None:
    async with opened(daemon) as (socket, server):
        await socket.send_str("die")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)
        assert "broke off" in str(message.extra)
        assert server.requests[0].path == "/ws"


async def test_a_server_that_dies_within_a_frame_is_no_close_frame(daemon: Daemon) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b"\x82\x7e\x10\x00half")
        await writer.drain()
        await reader.readexactly(1)
        reset(writer)

    async with bytes_server(converse) as port, connection(daemon) as (reader, writer):
        writer.write(handshake(port))
        async with asyncio.timeout(20):
            await reader.readuntil(b"half")
            writer.write(b"\x81")
            with suppress(ConnectionResetError):
                assert await reader.read() == b""


async def test_a_daemon_that_stops_says_so(serve_config: Callable[..., ServeConfig]) -> None:
    running = run_daemon(serve_config())
    daemon = await running.__aenter__()
    async with aiohttp.ClientSession(daemon.url) as http:
        server = Sockets()
        async with app_server(web.get("/ws", server.serve)) as port, asyncio.timeout(30):
            async with http.ws_connect(f"/proxy/{port}/ws") as socket:
                assert await socket.receive_str() == "welcome"
                stopping = asyncio.ensure_future(running.__aexit__(None, None, None))
                message = await socket.receive()
                assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1001, "the server is stopping")
                await stopping
                await server.ended.wait()


async def test_a_refused_upgrade_is_an_ordinary_answer(daemon: Daemon) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=403, text="not you")

    async with app_server(web.get("/ws", refuse)) as port:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await daemon.http.ws_connect(f"/proxy/{port}/ws")
        assert refused.value.status == 403
        answer = await ask(daemon, handshake(port).replace(b"Connection: Upgrade", b"Connection: Upgrade, close"))
    assert parsed(answer)[2] == b"not you"


async def test_ipv6_and_credentials(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(token=TOKEN)) as daemon:
        query = f"?a=b&DAYTONA_SANDBOX_AUTH_KEY={TOKEN}"
        async with opened(daemon, host="::1", query=query) as (_, server):
            assert server.requests[0].raw_path == "/ws?a=b"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await daemon.http.ws_connect(f"/proxy/{port_of(daemon) ^ 1}/ws")
        assert refused.value.status == 401


def handshake(port: int, protocol: str = "websocket") -> bytes:
    return (
        f"GET /proxy/{port}/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSet-Cookie: a=b\r\n\r\n"


async def test_frames_on_the_heels_of_the_handshake(daemon: Daemon) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b"\x81\x02hi\x88\x02\x03\xe8")
        await writer.drain()
        await reader.read()

    async with bytes_server(converse) as port, connection(daemon) as (reader, writer):
        writer.write(handshake(port))
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(8) == b"\x81\x02hi\x88\x02\x03\xe8"
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"Set-Cookie: a=b\r\n" in head
    assert b"Content-" not in head


async def test_another_protocol_with_its_half_closes(daemon: Daemon) -> None:
    heads: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        # Like `docker attach`: the input ends first, the output after it.
        received = await reader.read()
        writer.write(b"got " + received)
        await writer.drain()

    async with bytes_server(converse) as port, connection(daemon) as (reader, writer):
        writer.write(handshake(port, "tcp").replace(b"GET", b"POST"))
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
            assert b"Upgrade: tcp" in head
            writer.write(b"\x00\xffGET / HTTP/1.1\r\n\r\n")
            writer.write_eof()
            assert await reader.read() == b"got \x00\xffGET / HTTP/1.1\r\n\r\n"
    assert heads[0].startswith(b"POST /ws HTTP/1.1\r\n")
    assert b"Upgrade: tcp\r\nConnection: Upgrade\r\n" in heads[0]


async def test_an_upgrade_that_only_one_header_asks_for_is_none(daemon: Daemon) -> None:
    heard: list[bytes] = []
    async with bytes_server(saying(SWITCH, heard=heard)) as port:
        answer = await ask(daemon, handshake(port).replace(b"Connection: Upgrade\r\n", b""))
    assert parsed(answer)[0] == 502
    assert b"upgrade" not in heard[0].lower().replace(b"connection: close", b"")


async def test_who_does_not_read_stops_the_other_end(daemon: Daemon) -> None:
    sent, progress = 0, asyncio.Event()

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for _ in range(512):
            await socket.send_bytes(CHUNK)
            sent += len(CHUNK)
            progress.set()
        await socket.close()
        return socket

    async with app_server(web.get("/ws", pour)) as port, connection(daemon) as (reader, writer):
        writer.write(handshake(port))
        async with asyncio.timeout(60):
            await reader.readuntil(b"\r\n\r\n")
            while True:
                progress.clear()
                try:
                    await asyncio.wait_for(progress.wait(), 0.5)
                except TimeoutError:
                    break
            assert sent < 256 * len(CHUNK)
            received = 0
            while sent < 512 * len(CHUNK) and (data := await reader.read(MIB)):
                received += len(data)
    assert sent == 512 * len(CHUNK)
    assert received > 400 * len(CHUNK)
