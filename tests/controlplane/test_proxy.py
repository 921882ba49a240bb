"""The proxy in front of a daemon of our own making, over real sockets."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from controlplane.app import ENDPOINTS, build_control_plane
from controlplane.audit import Audit
from controlplane.draining import Draining
from controlplane.drivers.base import Access, Address
from controlplane.events import Events
from controlplane.keys import SandboxKeys
from controlplane.links import Links
from controlplane.previews import Previews
from controlplane.proxy import Proxy
from controlplane.sandboxes import Sandboxes
from controlplane.upstreams import Upstream, Upstreams
from toolbox.errors import NotFound
from toolbox.web.auth import Auth, Mode
from toolbox.web.metrics import Metrics
from toolbox.web.middleware import Pipeline
from toolbox.web.server import Server

KEY, TOKEN, ID = "client-key", "sandbox-token", "0b0e7c1e-6f0f-4a52-9f3c-0d9b8f7c1a11"
MIB = 1024 * 1024
BIG = 300 * MIB
CHUNK = bytes(range(256)) * 1024


class Daemon:
    """What the proxy talks to in these tests."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()
        self.app = web.Application(client_max_size=0)
        self.app.router.add_route("*", "/echo{tail:.*}", self.echo)
        self.app.router.add_get("/status/{code}", self.status)
        self.app.router.add_get("/big", self.big)
        self.app.router.add_get("/cut", self.cut)
        self.app.router.add_get("/vanish", self.vanish)
        self.app.router.add_get("/hang", self.hang)
        self.app.router.add_get("/drip", self.drip)
        self.app.router.add_get("/bare", self.bare)
        self.app.router.add_get("/file", self.file)
        self.app.router.add_get("/move", self.move)
        self.app.router.add_post("/sum", self.sum)
        self.app.router.add_get("/ws", self.websocket)
        self.path = Path(__file__)

    async def echo(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        body = await request.content.read()
        return web.json_response(
            {
                "method": request.method,
                "target": request.raw_path,
                "headers": [[name, value] for name, value in request.headers.items()],
                "body": body.decode(),
            },
            headers={"Keep-Alive": "timeout=5", "X-Own": "yes", "Set-Cookie": "a=b"},
        )

    async def status(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["code"]), reason="As Told")

    async def big(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(BIG)})
        await response.prepare(request)
        for _ in range(BIG // len(CHUNK)):
            await response.write(CHUNK)
        return response

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        self.entered.set()
        assert request.transport is not None
        await asyncio.sleep(0.05)
        request.transport.abort()
        return response

    async def vanish(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def hang(self, _: web.Request) -> web.StreamResponse:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return web.Response()

    async def drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"one")
        await self.entered.wait()
        await response.write(b"two")
        return response

    async def bare(self, _: web.Request) -> web.Response:
        response = web.Response(status=201)
        response.headers.popall("Content-Type", None)
        return response

    async def file(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(self.path)

    async def move(self, _: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/elsewhere?x=1"})

    async def sum(self, request: web.Request) -> web.Response:
        digest, size = hashlib.blake2b(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        return web.json_response({"size": size, "digest": digest.hexdigest()})

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        protocols = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if each]
        socket = web.WebSocketResponse(protocols=protocols, max_msg_size=0)
        await socket.prepare(request)
        await socket.send_str("welcome")
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data == "bye":
                await socket.close(code=4321, message=b"as agreed")
            elif message.type is WSMsgType.TEXT and message.data == "die":
                assert request.transport is not None
                request.transport.abort()
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        self.cancelled.set()
        return socket


class Front:
    """A running proxy and a client for it."""

    def __init__(self, base: str, client: aiohttp.ClientSession, daemon: Daemon, server: Server) -> None:
        self.base, self.client, self.daemon, self.server = base, client, daemon, server


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    daemon = Daemon()
    path = str(tmp_path / "d.sock")
    runner = web.AppRunner(daemon.app, handler_cancellation=True, shutdown_timeout=0.1, auto_decompress=False)
    await runner.setup()
    await web.UnixSite(runner, path).start()

    async def no_tunnels(_: web.Application) -> None:
        pass

    pipeline = Pipeline(Auth(Mode.TOKEN, KEY), Metrics(), source=None)
    async with Upstreams() as upstreams:
        await upstreams.open(ID, Access(address=Address(unix=path), token=TOKEN), organization="local")
        await upstreams.open(
            "gone", Access(address=Address(unix=str(tmp_path / "nobody.sock")), token=TOKEN), organization="local"
        )

        async def upstream(sandbox_id: str) -> Upstream:
            found = upstreams.get(sandbox_id)
            if found is None:
                raise NotFound("sandbox not found")
            return found

        stub = cast("Sandboxes", SimpleNamespace(touch=lambda _: None, upstream=upstream))
        services: dict[type, Any] = {
            Sandboxes: stub,
            Proxy: Proxy(stub),
            Links: Links(None, "x"),
            SandboxKeys: SandboxKeys("secret"),
        }
        # Not called in these tests, but the application names them.
        others = {kind: None for endpoint in ENDPOINTS for kind in endpoint.services.values()}
        services = {
            **others,
            **services,
            Previews: SimpleNamespace(close_tunnels=no_tunnels),
            Events: SimpleNamespace(close=no_tunnels),
            Audit: None,
            Draining: Draining(0),
        }
        server = Server(build_control_plane(services, pipeline), pipeline)
        await server.start()
        port = await server.listen_tcp("127.0.0.1", 0)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}, auto_decompress=False) as client:
            yield Front(f"http://127.0.0.1:{port}/toolbox/{ID}", client, daemon, server)
        await server.stop()
    await runner.cleanup()


async def echo(front: Front, path: str, **options: Any) -> dict[str, Any]:
    async with front.client.request(options.pop("method", "GET"), front.base + path, **options) as response:
        assert response.status == 200
        return cast("dict[str, Any]", await response.json())


async def test_request_arrives_untouched_but_for_credentials(front: Front) -> None:
    from yarl import URL

    target = "/echo/a%2Fb//c%20d/?x=%2B&DAYTONA_SANDBOX_AUTH_KEY=client-key&y=1&x=2"
    headers = {
        "X-Daytona-Preview-Token": KEY,
        "Connection": "X-Hop",
        "X-Hop": "1",
        "X-Many": "one",
        "Te": "trailers",
        "Cookie": "c=d",
    }
    async with front.client.get(URL(front.base + target, encoded=True), headers=headers) as response:
        seen = await response.json()
        assert response.headers["X-Own"] == "yes"
        assert response.headers["Set-Cookie"] == "a=b"
        assert "Keep-Alive" not in response.headers
        assert len(response.headers.getall("X-Request-Id")) == 1
    assert seen["target"] == "/echo/a%2Fb//c%20d/?x=%2B&y=1&x=2"
    got = {name.lower(): value for name, value in seen["headers"]}
    assert got["authorization"] == f"Bearer {TOKEN}"
    assert got["cookie"] == "c=d"
    assert got["x-many"] == "one"
    assert not {"x-daytona-preview-token", "x-hop", "te", "connection"} & got.keys()
    assert KEY not in str(seen)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_methods_and_bodies(front: Front, method: str) -> None:
    seen = await echo(front, "/echo", method=method, data=b"hello")
    assert (seen["method"], seen["body"]) == (method, "hello")


async def test_chunked_body_and_expect(front: Front) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"he"
        yield b"llo"

    seen = await echo(front, "/echo", method="POST", data=body(), expect100=True)
    assert seen["body"] == "hello"
    assert "expect" not in {name.lower() for name, _ in seen["headers"]}


async def test_no_credential_no_way(front: Front) -> None:
    async with aiohttp.ClientSession() as stranger, stranger.get(front.base + "/echo") as response:
        assert response.status == 401
        assert "source" not in await response.json()
    assert front.daemon.seen == []


async def test_query_key_opens(front: Front) -> None:
    url = f"{front.base}/echo?DAYTONA_SANDBOX_AUTH_KEY={KEY}"
    async with aiohttp.ClientSession() as browser, browser.get(url) as response:
        assert (await response.json())["target"] == "/echo"


async def test_unknown_sandbox(front: Front) -> None:
    async with front.client.get(front.base.replace(ID, "unknown") + "/echo") as response:
        assert response.status == 404
        assert (await response.json())["message"] == "sandbox not found"


async def test_refused_connection(front: Front) -> None:
    async with front.client.get(front.base.replace(ID, "gone") + "/echo") as response:
        assert response.status == 503
        assert (await response.json())["code"] == "SERVICE_UNAVAILABLE"


async def test_daemon_vanishes_before_it_answers(front: Front) -> None:
    async with front.client.get(front.base + "/vanish") as response:
        assert response.status == 502
        assert (await response.json())["statusCode"] == 502


async def test_daemon_dies_within_a_body(front: Front) -> None:
    async with front.client.get(front.base + "/cut") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_client_that_leaves_cancels(front: Front) -> None:
    task = asyncio.ensure_future(front.client.get(front.base + "/hang"))
    await front.daemon.entered.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await asyncio.wait_for(front.daemon.cancelled.wait(), 10)


async def test_nothing_is_held_back(front: Front) -> None:
    async with front.client.get(front.base + "/drip") as response:
        assert await response.content.readany() == b"one"
        front.daemon.entered.set()
        assert await response.content.read() == b"two"


async def test_status_reason_and_emptiness(front: Front) -> None:
    for code in (200, 204, 304, 404, 418, 500):
        async with front.client.get(f"{front.base}/status/{code}") as response:
            assert (response.status, response.reason) == (code, "As Told")
    async with front.client.get(front.base + "/bare") as response:
        assert response.status == 201
        assert "Content-Type" not in response.headers


async def test_head_range_and_conditional(front: Front) -> None:
    whole = front.daemon.path.read_bytes()
    async with front.client.head(front.base + "/file") as response:
        assert response.headers["Content-Length"] == str(len(whole))
        etag = response.headers["ETag"]
    async with front.client.get(front.base + "/file", headers={"Range": "bytes=3-9"}) as response:
        assert response.status == 206
        assert await response.read() == whole[3:10]
        assert response.headers["Content-Range"] == f"bytes 3-9/{len(whole)}"
    async with front.client.get(front.base + "/file", headers={"If-None-Match": etag}) as response:
        assert response.status == 304
        assert await response.read() == b""
        assert response.headers["ETag"] == etag
    async with front.client.get(front.base + "/file") as response:
        assert await response.read() == whole


async def test_redirects_stay_in_the_sandbox(front: Front) -> None:
    async with front.client.get(front.base + "/move", allow_redirects=False) as response:
        assert response.headers["Location"] == f"/toolbox/{ID}/elsewhere?x=1"


@contextmanager
def bounded_memory(growth: int) -> Iterator[None]:
    """Fail when the peak of this process's memory grows by more than `growth` bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < growth


def memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


async def test_300_mb_down_in_constant_memory(front: Front) -> None:
    expected, digest = hashlib.blake2b(), hashlib.blake2b()
    for _ in range(BIG // len(CHUNK)):
        expected.update(CHUNK)
    with bounded_memory(48 * MIB):
        async with front.client.get(front.base + "/big") as response:
            assert response.headers["Content-Length"] == str(BIG)
            async for chunk in response.content.iter_any():
                digest.update(chunk)
    assert digest.digest() == expected.digest()


async def test_300_mb_up_in_constant_memory(front: Front) -> None:
    digest = hashlib.blake2b()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(BIG // len(CHUNK)):
            digest.update(CHUNK)
            yield CHUNK

    with bounded_memory(48 * MIB):
        headers = {"Content-Length": str(BIG)}
        async with front.client.post(front.base + "/sum", data=body(), headers=headers) as response:
            got = await response.json()
    assert got == {"size": BIG, "digest": digest.hexdigest()}


async def test_slow_reader_does_not_fill_memory(front: Front) -> None:
    with bounded_memory(48 * MIB):
        async with front.client.get(front.base + "/big") as response:
            await response.content.readany()
            await asyncio.sleep(0.5)


@asynccontextmanager
async def socket_to(front: Front, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse[bool]]:
    async with front.client.ws_connect(front.base + "/ws", max_msg_size=0, **options) as socket:
        assert await socket.receive_str() == "welcome"
        yield socket


async def test_websocket_subprotocol_and_echo(front: Front) -> None:
    offered = ("X-Daytona-SDK-Version~1.2.3", "other")
    async with socket_to(front, protocols=offered) as socket:
        assert socket.protocol == "X-Daytona-SDK-Version~1.2.3"
        for size in (0, 1, 125, 126, 65535, 65536, 5 * MIB):
            await socket.send_bytes(bytes(size))
            assert await socket.receive_bytes() == bytes(size)
        await socket.send_str("text")
        assert await socket.receive_str() == "text"


async def test_websocket_ping_is_answered(front: Front) -> None:
    async with socket_to(front, autoping=False) as socket:
        await socket.ping(b"you there")
        message = await socket.receive()
        assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"you there")


async def test_websocket_close_code_and_reason(front: Front) -> None:
    async with socket_to(front) as socket:
        await socket.send_str("bye")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4321, "as agreed")


async def test_websocket_client_leaves(front: Front) -> None:
    async with socket_to(front) as socket:
        await socket.close(code=4000)
    await asyncio.wait_for(front.daemon.cancelled.wait(), 10)


async def test_websocket_daemon_dies(front: Front) -> None:
    async with socket_to(front) as socket:
        await socket.send_str("die")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1011, f"sandbox {ID} broke off")


async def test_websocket_server_stops(front: Front) -> None:
    async with socket_to(front) as socket:
        stopping = asyncio.ensure_future(front.server.stop())
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1001, "the server is stopping")
        await stopping


async def test_websocket_refused_by_the_daemon(front: Front) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await front.client.ws_connect(front.base + "/status/404")
    assert refused.value.status == 404


async def test_websocket_slow_reader_does_not_fill_memory(front: Front) -> None:
    async with socket_to(front) as socket:
        with bounded_memory(64 * MIB):
            sending = asyncio.ensure_future(_pour(socket))
            await asyncio.sleep(0.5)
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending


async def _pour(socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
    """Send for ever and read nothing: the echo must stop the sender, not pile up."""
    while True:
        await socket.send_bytes(CHUNK)
