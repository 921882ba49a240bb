"""The websocket base, on a small application of its own."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from toolbox.web.auth import Auth, Mode
from toolbox.web.endpoint import Routes
from toolbox.web.metrics import Metrics
from toolbox.web.middleware import Pipeline
from toolbox.web.server import Server, build_application
from toolbox.web.websocket import SEND_QUEUE_BYTES, Socket, Sockets, choose_protocol

routes = Routes("test")


@routes.get("/echo", "Echo")
async def echo(request: web.Request, sockets: Sockets) -> web.WebSocketResponse:
    """Send back what comes in."""
    async with Socket(request, sockets) as socket:
        async for message in socket:
            if message.data == "close":
                await socket.close(4008, "as asked")
            elif message.data == "fail":
                raise ValueError("boom")
            elif message.data == "flood":
                while socket.push(b"x" * 30_000):
                    pass
            elif message.data == "burst":
                for number in range(300):
                    await socket.send(number.to_bytes(4) * 5000)
                break
            elif message.data == "busy":
                await asyncio.sleep(0.5)
                await socket.send("done")
            else:
                await socket.send(message.data)
    return socket.response


@pytest.fixture
async def url() -> AsyncIterator[str]:
    sockets = Sockets()
    pipeline = Pipeline(Auth(Mode.LOCAL), Metrics(), source="TEST")
    app = build_application([*routes], {Sockets: sockets}, pipeline)
    app.on_shutdown.append(lambda _: sockets.close_all())
    server = Server(app, pipeline)
    await server.start()
    port = await server.listen_tcp("127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}/echo"
    await server.stop()
    assert len(sockets) == 0


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_echo_text_and_binary(url: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(url) as ws:
        await ws.send_str("a")
        await ws.send_bytes(b"\0b")
        assert (await ws.receive()).data == "a"
        assert (await ws.receive()).data == b"\0b"
        await ws.close()
        assert ws.close_code == 1000


async def test_close_code_and_reason(url: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(url) as ws:
        await ws.send_str("close")
        message = await ws.receive()
        assert message.type is WSMsgType.CLOSE
        assert (message.data, message.extra) == (4008, "as asked")


async def test_a_failure_is_a_close_code_not_a_dropped_connection(url: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(url) as ws:
        await ws.send_str("fail")
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)


async def test_a_client_that_does_not_read_is_closed_and_the_rest_goes_on(
    url: str, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(url, max_msg_size=0) as slow, http.ws_connect(url) as other:
        await slow.send_str("flood")
        await asyncio.sleep(0.3)
        await other.send_str("hi")
        assert (await other.receive()).data == "hi"
        received = 0
        while (message := await slow.receive()).type is WSMsgType.BINARY:
            received += len(message.data)
        assert (slow.close_code, message.extra) == (1008, "slow consumer")
        assert received <= SEND_QUEUE_BYTES + 30_000


async def test_a_waiting_sender_loses_nothing(url: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(url) as ws:
        await ws.send_str("burst")
        await asyncio.sleep(0.2)
        for number in range(300):
            assert (await ws.receive()).data == number.to_bytes(4) * 5000
        assert (await ws.receive()).type is WSMsgType.CLOSE
        assert ws.close_code == 1000


async def test_pings_are_answered_while_the_handler_is_busy(url: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(url, autoping=False) as ws:
        await ws.send_str("busy")
        await ws.ping(b"?")
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"?")
        assert (await ws.receive()).data == "done"


async def test_stopping_closes_with_1001(http: aiohttp.ClientSession) -> None:
    sockets = Sockets()
    pipeline = Pipeline(Auth(Mode.LOCAL), Metrics(), source="TEST")
    app = build_application([*routes], {Sockets: sockets}, pipeline)
    app.on_shutdown.append(lambda _: sockets.close_all())
    server = Server(app, pipeline)
    await server.start()
    port = await server.listen_tcp("127.0.0.1", 0)
    async with http.ws_connect(f"http://127.0.0.1:{port}/echo") as ws:
        await ws.send_str("a")
        await ws.receive()
        _, message = await asyncio.gather(server.stop(), ws.receive())
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        (["X-Daytona-SDK-Version~0.226.1"], "X-Daytona-SDK-Version~0.226.1"),
        (["a", "X-Daytona-SDK-Version~1", "X-Daytona-Pty-Exit-Control"], "X-Daytona-SDK-Version~1"),
        (["X-Daytona-Pty-Envs~e30", "X-Daytona-Pty-Exit-Control"], "X-Daytona-Pty-Exit-Control"),
        (["chat", "superchat"], "chat"),
    ],
)
async def test_subprotocols(url: str, http: aiohttp.ClientSession, offered: list[str], chosen: str | None) -> None:
    assert choose_protocol(offered) == chosen
    async with http.ws_connect(url, protocols=offered) as ws:
        assert ws.protocol == chosen
