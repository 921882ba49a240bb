"""How answers of a server of the sandbox come back, and what happens when either end fails."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import Daemon
from tests.proxy.servers import app_server, ask, bytes_server, connection, envelope, parsed, reset, saying

MIB = 1024 * 1024
BIG = 128 * MIB
CHUNK = bytes(range(256)) * 1024


def request_for(port: int, *, method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} /proxy/{port}/x HTTP/{version}\r\nHost: localhost\r\n\r\n".encode()


@contextmanager
def bounded_memory(growth: int) -> Iterator[None]:
    """Fail when the peak of this process's memory grows by more than `growth` bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    yield
    assert _memory("VmHWM") - before < growth


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


async def test_status_reason_and_headers_as_they_are(daemon: Daemon) -> None:
    said = (
        b"HTTP/1.1 299 As Told\r\nServer: mine/1\r\nX-Request-Id: theirs\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n"
        b"Location: /elsewhere\r\nKeep-Alive: timeout=5\r\nConnection: X-Hop, close\r\nX-Hop: h\r\nX-Latin: caf\xe9\r\n"
        b"Content-Encoding: gzip\r\nDate: then\r\nContent-Length: 3\r\n\r\nabc"
    )
    async with bytes_server(saying(said)) as port:
        answer = await ask(daemon, request_for(port))
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 299 As Told"
    assert sorted(lines[1:]) == [
        "Connection: close",
        "Content-Encoding: gzip",
        "Content-Length: 3",
        "Date: then",
        "Location: /elsewhere",
        "Server: mine/1",
        "Set-Cookie: a=b",
        "Set-Cookie: c=d",
        "X-Latin: café",
        "X-Request-Id: theirs",
    ]
    assert parsed(answer)[2] == b"abc"


@pytest.mark.parametrize(
    ("said", "method", "headers", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", {}, b""),
        (b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 9\r\n\r\n', "GET", {"etag": '"x"'}, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", "HEAD", {"content-length": "12345"}, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", {}, b""),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", "POST", {"content-length": "0"}, b""),
        (b"HTTP/1.1 404 \r\nContent-Length: 2\r\n\r\nno", "GET", {"content-length": "2"}, b"no"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "POST", {}, b"ok"),
        (b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", {}, b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", "GET", {}, b"d\r\nuntil the end\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-T: 1\r\n\r\n", "GET", {}, b"ab"),
    ],
)
async def test_bodies_and_no_bodies(
    daemon: Daemon, said: bytes, method: str, headers: dict[str, str], body: bytes
) -> None:
    async with bytes_server(saying(said)) as port:
        answer = await ask(daemon, request_for(port, method=method))
    status, got, rest = parsed(answer)
    final = said.rpartition(b"HTTP/1.")[2]
    assert status == int(final.split()[1])
    assert headers.items() <= got.items()
    assert rest in (body, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert not {"link", "x-t", "content-type", "server"} & got.keys()
    assert method != "HEAD" or rest == b""


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x00\x01",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x07b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi",
    ],
)
async def test_what_is_no_answer_is_502(daemon: Daemon, said: bytes) -> None:
    async with bytes_server(saying(said)) as port:
        answer = await ask(daemon, request_for(port))
    assert parsed(answer)[0] == 502
    error = envelope(answer)
    assert (error["code"], error["source"]) == ("BAD_GATEWAY", "DAYTONA_DAEMON")
    assert str(port) in error["message"]
    assert b"evil" not in answer


async def test_a_length_beside_chunks_is_not_believed(daemon: Daemon) -> None:
    said = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"26\r\nabcHTTP/1.1 200 OK\r\nX-Smuggled: yes\r\n\r\n\r\n0\r\n\r\n"
    )
    async with bytes_server(saying(said)) as port:
        status, headers, body = parsed(await ask(daemon, request_for(port)))
    # Either refused, or passed on with one length only, and the whole body within it.
    assert status == 502 or ("transfer-encoding" in headers) != (headers.get("content-length") == "38"), headers
    assert status == 502 or b"X-Smuggled" in body


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    ("head", "then"),
    [
        (b"Content-Length: 1000\r\n\r\nfirst", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", b"zz\r\n"),
        (b"\r\nfirst", b""),
    ],
)
async def test_a_server_that_dies_within_a_body_is_never_a_clean_end(
    daemon: Daemon, head: bytes, then: bytes, version: str
) -> None:
    arrived = asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await writer.drain()
        await arrived.wait()
        if then:
            writer.write(then)
            await writer.drain()
            await reader.read()
        reset(writer)

    async with bytes_server(converse) as port, connection(daemon) as (reader, writer):
        writer.write(request_for(port, version=version))
        async with asyncio.timeout(20):
            got = await reader.readuntil(b"first")
            arrived.set()
            with suppress(ConnectionResetError):
                got += await reader.read()
                # An ordinary end: then what came before it must tell that something is missing.
                assert version == "1.1" or b"Content-Length: 1000" in got
    assert not got.endswith(b"0\r\n\r\n")
    assert version == "1.0" or (b"Content-Length: 1000" in got) != (b"Transfer-Encoding: chunked" in got)


async def test_a_malformed_body_of_the_client_is_no_clean_end_upstream(daemon: Daemon) -> None:
    entered = asyncio.Event()
    outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def converse(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"hello")
        entered.set()
        outcome.set_result(await reader.read())

    async with bytes_server(converse) as port, connection(daemon) as (reader, writer):
        writer.write(b"POST /proxy/%d/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % port)
        writer.write(b"5\r\nhello\r\n")
        await asyncio.wait_for(entered.wait(), 20)
        writer.write(b"zz\r\n")
        async with asyncio.timeout(20):
            answer = await reader.read()
            assert parsed(answer)[0] == 400
            assert b"0\r\n\r\n" not in await outcome


async def test_a_connection_reset_after_the_answer_does_no_harm(daemon: Daemon) -> None:
    for head in (b"Content-Length: 2\r\n\r\nok", b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"):

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes = head) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n" + head)
            await writer.drain()
            reset(writer)

        async with bytes_server(converse) as port:
            assert b"ok" in parsed(await ask(daemon, request_for(port)))[2]


async def test_a_client_that_leaves_ends_the_request_upstream(daemon: Daemon) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return web.Response()

    async with app_server(web.get("/x", hang), cancel=True) as port:
        async with connection(daemon) as (_, writer):
            writer.write(request_for(port))
            await asyncio.wait_for(entered.wait(), 20)
        await asyncio.wait_for(ended.wait(), 20)


@pytest.mark.parametrize("head", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_client_that_leaves_within_its_body_is_no_clean_end_upstream(daemon: Daemon, head: bytes) -> None:
    entered = asyncio.Event()
    outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def converse(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"hello")
        entered.set()
        try:
            outcome.set_result(await reader.read())
        except ConnectionError:
            outcome.set_result(b"")

    async with bytes_server(converse) as port:
        async with connection(daemon) as (_, writer):
            writer.write(b"POST /proxy/%d/x HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (port, head))
            writer.write(b"hello" if b"Length" in head else b"5\r\nhello\r\n")
            await asyncio.wait_for(entered.wait(), 20)
        assert b"0\r\n\r\n" not in await asyncio.wait_for(outcome, 20)


async def test_an_early_answer_to_an_unfinished_body(daemon: Daemon) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()
        await reader.read()

    async with bytes_server(converse) as port, connection(daemon) as (reader, writer):
        writer.write(b"POST /proxy/%d/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nsome" % port)
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"big")).startswith(b"HTTP/1.1 413 Too Large\r\n")


async def test_both_directions_at_once(daemon: Daemon) -> None:
    async def double(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk)
        return response

    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        for number in range(5):
            yield b"%d" % number
            assert await answers.get() == b"%d" % number

    async with app_server(web.post("/x", double)) as port:
        async with daemon.http.post(f"/proxy/{port}/x", data=body()) as response:
            async with asyncio.timeout(20):
                async for chunk in response.content.iter_any():
                    answers.put_nowait(chunk)


async def test_events_arrive_one_by_one(daemon: Daemon) -> None:
    more: asyncio.Queue[bytes] = asyncio.Queue()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while event := await more.get():
            await response.write(event)
        return response

    async with app_server(web.get("/x", events)) as port:
        async with asyncio.timeout(20), daemon.http.get(f"/proxy/{port}/x") as response:
            # The head is here before the first event.
            assert response.headers["Content-Type"] == "text/event-stream"
            for number in range(3):
                more.put_nowait(b"data: %d\n\n" % number)
                assert await response.content.readany() == b"data: %d\n\n" % number
            more.put_nowait(b"")
            assert await response.content.read() == b""


async def test_much_both_ways_in_constant_memory(daemon: Daemon) -> None:
    expected = hashlib.blake2b(CHUNK * (BIG // len(CHUNK))).digest()

    async def down(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(BIG)})
        await response.prepare(request)
        for _ in range(BIG // len(CHUNK)):
            await response.write(CHUNK)
        return response

    async def up(request: web.Request) -> web.Response:
        digest = hashlib.blake2b()
        async for chunk in request.content.iter_any():
            digest.update(chunk)
        return web.Response(body=digest.digest())

    async def body() -> AsyncIterator[bytes]:
        for _ in range(BIG // len(CHUNK)):
            yield CHUNK

    async with app_server(web.get("/x", down), web.post("/x", up)) as port:
        with bounded_memory(32 * MIB):
            digest = hashlib.blake2b()
            async with daemon.http.get(f"/proxy/{port}/x") as response:
                assert response.headers["Content-Length"] == str(BIG)
                async for chunk in response.content.iter_any():
                    digest.update(chunk)
            assert digest.digest() == expected
            async with daemon.http.post(f"/proxy/{port}/x", data=body()) as response:
                assert await response.read() == expected


async def test_a_slow_reader_stops_the_server_and_loses_nothing(daemon: Daemon) -> None:
    written, progress = 0, asyncio.Event()

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(BIG // len(CHUNK)):
            await response.write(CHUNK)
            written += len(CHUNK)
            progress.set()
        return response

    async with app_server(web.get("/x", pour)) as port, daemon.http.get(f"/proxy/{port}/x") as response:
        with bounded_memory(32 * MIB):
            await _until_stuck(progress)
            assert written < BIG // 2
        digest, size = hashlib.blake2b(), 0
        async for chunk in response.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
    assert size == BIG
    assert digest.digest() == hashlib.blake2b(CHUNK * (BIG // len(CHUNK))).digest()


async def _until_stuck(progress: asyncio.Event) -> None:
    """Wait until nothing has moved for a while."""
    while True:
        progress.clear()
        try:
            await asyncio.wait_for(progress.wait(), 0.5)
        except TimeoutError:
            return


async def test_a_slow_server_stops_the_client(daemon: Daemon) -> None:
    sent, progress, go = 0, asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        await go.wait()
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        return web.Response(text=str(size))

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(BIG // len(CHUNK)):
            yield CHUNK
            sent += len(CHUNK)
            progress.set()

    async with app_server(web.post("/x", wait)) as port:
        asking = asyncio.ensure_future(daemon.http.post(f"/proxy/{port}/x", data=body()))
        with bounded_memory(32 * MIB):
            await _until_stuck(progress)
            assert sent < BIG // 2
        go.set()
        async with await asking as response:
            assert await response.text() == str(BIG)


async def test_connections_are_used_again_and_a_closed_one_is_no_failure(daemon: Daemon) -> None:
    peers: list[object] = []

    async def peer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response()

    async with app_server(web.get("/x", peer)) as port:
        for _ in range(3):
            async with daemon.http.get(f"/proxy/{port}/x") as response:
                assert response.status == 200
    assert len(set(peers)) == 1

    async def close_after_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # and, unannounced, closes

    async with bytes_server(close_after_answer) as port:
        for _ in range(20):
            async with daemon.http.get(f"/proxy/{port}/x") as response:
                assert await response.text() == "ok"


async def test_a_redirect_is_neither_followed_nor_changed(daemon: Daemon) -> None:
    for location in ("/login", "https://example.com/", "//evil/", "../up"):

        async def move(_: web.Request, location: str = location) -> web.Response:
            return web.Response(status=302, headers={"Location": location})

        async with app_server(web.get("/x", move)) as port:
            async with daemon.http.get(f"/proxy/{port}/x", allow_redirects=False) as response:
                assert (response.status, response.headers["Location"]) == (302, location)


async def test_a_hundred_at_once(daemon: Daemon) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.query_string)

    async def one(http: aiohttp.ClientSession, port: int, number: int) -> str:
        async with http.get(f"{daemon.url}/proxy/{port}/x?{number}") as response:
            return await response.text()

    async with app_server(web.get("/x", answer)) as port, aiohttp.ClientSession() as http:
        assert await asyncio.gather(*(one(http, port, n) for n in range(100))) == [str(n) for n in range(100)]
