"""What a server of the sandbox gets of a request, and which requests never leave."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.conftest import Daemon, run_daemon
from tests.proxy.servers import OK, app_server, ask, bytes_server, connection, echo, envelope, parsed, port_of, saying
from toolbox.config import ServeConfig

TOKEN = "t0ken-of-this-test"
ALL = web.route("*", "/{tail:.*}", echo)


async def seen_by(daemon: Daemon, port: int, target: str = "/", method: str = "GET", **options: Any) -> Any:
    """Return the request as it arrived, its headers as a dict with names in lower case."""
    url = URL(f"{daemon.url}/proxy/{port}{target}", encoded=True)
    async with daemon.http.request(method, url, **options) as response:
        assert response.status == 200, await response.text()
        seen = await response.json()
    seen["headers"] = {name.lower(): value for name, value in seen["headers"]}
    return seen


@pytest.mark.parametrize(
    ("asked", "arrives"),
    [
        ("", "/"),
        ("/", "/"),
        ("?a=b", "/?a=b"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("//a//b/", "//a//b/"),
        ("/a%2Fb%2f%20%C3%A9%zz/c+d", "/a%2Fb%2f%20%C3%A9%zz/c+d"),
        ("/a/../b/./c", "/a/../b/./c"),
        ("/a;b=c,d@e:f!$&'()*=~", "/a;b=c,d@e:f!$&'()*=~"),
        ("/a?", "/a?"),
        ("/a?x=1&x=2&y=%26+%2B&=&z", "/a?x=1&x=2&y=%26+%2B&=&z"),
        ("/a?next=/proxy/1/b?c#d", "/a?next=/proxy/1/b?c#d"),
        ("/[x]?q=[1]{2}|3\\4", "/[x]?q=[1]{2}|3\\4"),
        ("/a%0d%0aX-Evil:%201", "/a%0d%0aX-Evil:%201"),
        ("/@evil/..//evil.com", "/@evil/..//evil.com"),
        ("/proxy/80/x", "/proxy/80/x"),
    ],
)
async def test_the_target_arrives_byte_for_byte(daemon: Daemon, asked: str, arrives: str) -> None:
    heard: list[bytes] = []
    async with bytes_server(saying(OK, heard=heard)) as port:
        answer = await ask(daemon, f"GET /proxy/{port}{asked} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert parsed(answer)[0] == 200
    assert heard[0].split(b"\r\n")[0].decode() == f"GET {arrives} HTTP/1.1"


async def test_the_absolute_form_and_our_prefixes(serve_config: Callable[..., ServeConfig]) -> None:
    heard: list[bytes] = []
    async with run_daemon(serve_config(sandbox_id="box")) as daemon, bytes_server(saying(OK, heard=heard)) as port:
        for target in (
            f"http://localhost/proxy/{port}/a/",
            f"/box/proxy/{port}/a/",
            f"/toolbox/box/proxy/{port}/a/",
            f"/proxy/%3{str(port)[0]}{str(port)[1:]}/a/",
        ):
            answer = await ask(daemon, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert parsed(answer)[0] == 200, target
    assert {head.split(b"\r\n")[0] for head in heard} == {b"GET /a/ HTTP/1.1"}


@pytest.mark.parametrize("target", ["/box//evil/proxy/{port}/x", "//evil/proxy/{port}/x", "/x/proxy/{port}/x"])
async def test_other_paths_are_not_the_proxy(serve_config: Callable[..., ServeConfig], target: str) -> None:
    heard: list[bytes] = []
    async with run_daemon(serve_config(sandbox_id="box")) as daemon, bytes_server(saying(OK, heard=heard)) as port:
        request = f"GET {target.format(port=port)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert parsed(await ask(daemon, request))[0] == 404
    assert heard == []


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_methods_and_bodies(daemon: Daemon, method: str) -> None:
    async with app_server(ALL) as port:
        seen = await seen_by(daemon, port, "/x", method, data=b"hello")
        assert (seen["method"], seen["body"], seen["headers"]["content-length"]) == (method, "hello", "5")


async def test_a_body_of_unknown_length_and_expect(daemon: Daemon) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"he"
        yield b"llo"

    async with app_server(ALL) as port:
        seen = await seen_by(daemon, port, "/x", "POST", data=body(), expect100=True)
    assert seen["body"] == "hello"
    assert seen["headers"]["transfer-encoding"] == "chunked"
    assert not {"expect", "content-length"} & seen["headers"].keys()


async def test_nothing_is_added_and_this_hop_is_left_out(daemon: Daemon) -> None:
    heard: list[bytes] = []
    request = (
        "GET /proxy/{port}/ HTTP/1.1\r\nHost: sandbox.localhost:99\r\nX-One: 1\r\nX-Two: a\r\nx-two: b\r\n"
        "Cookie: c=d\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X\r\nProxy-Authorization: Basic eDp5\r\n"
        "X-Hop: h\r\nConnection: X-Hop, X-Forwarded-For\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    )
    async with bytes_server(saying(OK, heard=heard)) as port:
        await ask(daemon, request.format(port=port).encode())
        lines = heard[0].decode().split("\r\n")
        assert sorted(line for line in lines[1:] if line) == [
            "Cookie: c=d",
            f"Host: localhost:{port}",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Host: sandbox.localhost:99",
            "X-Forwarded-Proto: http",
            "X-One: 1",
            "X-Two: a",
            "X-Two: b",
        ]


async def test_forwarded_headers_of_a_proxy_before_us_are_continued(daemon: Daemon) -> None:
    given = {"X-Forwarded-For": "10.1.1.1", "X-Forwarded-Host": "box.example", "X-Forwarded-Proto": "https"}
    async with app_server(ALL) as port:
        seen = await seen_by(daemon, port, headers=given)
    assert seen["headers"]["x-forwarded-for"] == "10.1.1.1, 127.0.0.1"
    assert seen["headers"]["x-forwarded-host"] == "box.example"
    assert seen["headers"]["x-forwarded-proto"] == "https"


async def test_our_credentials_stay_here(serve_config: Callable[..., ServeConfig]) -> None:
    target = f"/x?a=1&DAYTONA_SANDBOX_AUTH_KEY={TOKEN}&%44AYTONA_SANDBOX_AUTH_KEY={TOKEN}&b=2"
    headers = {"Authorization": f"bearer  {TOKEN}", "X-Daytona-Preview-Token": TOKEN}
    async with run_daemon(serve_config(token=TOKEN)) as daemon, app_server(ALL) as port:
        seen = await seen_by(daemon, port, target, headers=headers)
    assert seen["target"] == "/x?a=1&b=2"
    assert not {"authorization", "x-daytona-preview-token"} & seen["headers"].keys()
    assert TOKEN not in json.dumps(seen)


@pytest.mark.parametrize("theirs", ["Bearer app-token", "Basic dXNlcjpwYXNz", "Bearer \udcff"])
async def test_credentials_of_the_application_pass(serve_config: Callable[..., ServeConfig], theirs: str) -> None:
    heard: list[bytes] = []
    value = theirs.encode("utf-8", "surrogateescape")
    async with run_daemon(serve_config(token=TOKEN)) as daemon, bytes_server(saying(OK, heard=heard)) as port:
        head = f"GET /proxy/{port}/ HTTP/1.1\r\nHost: x\r\nX-Daytona-Preview-Token: {TOKEN}\r\n".encode()
        answer = await ask(daemon, head + b"Authorization: " + value + b"\r\n\r\n")
        assert parsed(answer)[0] == 200, answer
        assert b"Authorization: " + theirs.replace("\udcff", "\xff").encode() in heard[0]
        answer = await ask(
            daemon, f"GET /proxy/{port}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\n\r\n".encode()
        )
        assert parsed(answer)[0] == 401
        assert len(heard) == 1


async def test_without_a_token_every_authorization_is_the_applications(daemon: Daemon) -> None:
    async with app_server(ALL) as port:
        seen = await seen_by(daemon, port, headers={"Authorization": "Bearer whatever"})
    assert seen["headers"]["authorization"] == "Bearer whatever"


@pytest.mark.parametrize(
    "port",
    [
        "80%40evil:5555",
        "80@evil:5555",
        "127.0.0.1:80",
        "80%2F..%2F",
        "evil.com",
        "[::1]:80",
        "0",
        "-1",
        "65536",
        "99999999999999999999",
        "02280",
        "+2280",
        "2280.0",
        "1e3",
        "0x50",
        "%202280",
        "22%0080",
        "%D9%A2%D9%A2",
        "80%0d%0aHost:%20evil",
        "80%23",
    ],
)
async def test_only_a_plain_port_number_is_taken(daemon: Daemon, port: str) -> None:
    for tail in ("", "/", "/x"):
        answer = await ask(daemon, f"GET /proxy/{port}{tail} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert parsed(answer)[0] == 400, port
        assert envelope(answer)["code"] == "BAD_REQUEST"


async def test_the_daemons_own_port_is_refused(daemon: Daemon) -> None:
    for path in ("/version", f"/proxy/{port_of(daemon)}/version"):
        async with daemon.http.get(f"/proxy/{port_of(daemon)}{path}") as response:
            assert response.status == 400
            assert "own" in (await response.json())["message"]


async def test_nobody_listens(daemon: Daemon) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        for method in ("GET", "POST"):
            async with daemon.http.request(method, f"/proxy/{bound.getsockname()[1]}/x", data=b"x") as response:
                assert response.status == 502
                answer = await response.json()
            assert (answer["code"], answer["statusCode"], answer["method"]) == ("BAD_GATEWAY", 502, method)


async def test_a_server_on_ipv6_only(daemon: Daemon) -> None:
    async with app_server(ALL, host="::1") as port:
        seen = await seen_by(daemon, port, "/six")
    assert (seen["target"], seen["headers"]["host"]) == ("/six", f"localhost:{port}")


async def test_ipv4_comes_first(daemon: Daemon) -> None:
    heard: list[bytes] = []
    async with bytes_server(saying(OK)) as port:
        with socket.socket(socket.AF_INET6) as six:
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            six.bind(("::1", port))
            six.listen()
            for _ in range(4):
                async with daemon.http.get(f"/proxy/{port}/") as response:
                    assert await response.text() == "ok"
    assert heard == []


@pytest.mark.parametrize(
    "head",
    [
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "X: a\r\n Transfer-Encoding: chunked\r\n",
        "X: a\nTransfer-Encoding: chunked\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "X: a\x00b\r\n",
        "X\x00: b\r\n",
        "X Y: b\r\n",
        ": b\r\n",
    ],
)
async def test_smuggled_heads_do_not_leave(daemon: Daemon, head: str) -> None:
    heard: list[bytes] = []
    async with bytes_server(saying(OK, heard=heard)) as port:
        request = (
            f"POST /proxy/{port}/ HTTP/1.1\r\nHost: localhost\r\n{head}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
        )
        answer = await ask(daemon, request.encode())
    assert parsed(answer)[0] == 400
    assert heard == []


async def test_a_hop_by_hop_length_cannot_shift_the_body(daemon: Daemon) -> None:
    inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    async with app_server(ALL) as port:
        head = f"POST /proxy/{port}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(inner)}\r\n"
        answer = await ask(daemon, head.encode() + b"Connection: Content-Length\r\n\r\n" + inner)
    seen = json.loads(parsed(answer)[2])
    assert seen["body"].encode() == inner
    assert [name for name, _ in seen["headers"] if name == "Content-Length"] == []


async def test_trailers_of_a_request_are_dropped(daemon: Daemon) -> None:
    async with app_server(ALL) as port:
        head = f"POST /proxy/{port}/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
        body = "5\r\nhello\r\n0\r\nX-T: 1\r\nAuthorization: Bearer evil\r\n\r\n"
        seen = json.loads(parsed(await ask(daemon, (head + body).encode()))[2])
    assert seen["body"] == "hello"
    assert not {"X-T", "Authorization", "Trailer"} & {name for name, _ in seen["headers"]}


async def test_two_requests_in_one_packet_stay_two(daemon: Daemon) -> None:
    async with app_server(ALL) as port, connection(daemon) as (reader, writer):
        one = f"POST /proxy/{port}/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
        two = f"GET /proxy/{port}/2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        writer.write((one + two).encode())
        async with asyncio.timeout(20):
            answers = (await reader.read()).decode()
    assert answers.count("HTTP/1.1 200 OK") == 2
    assert '"target": "/1"' in answers
    assert '"target": "/2"' in answers


async def test_big_headers_pass(daemon: Daemon) -> None:
    heard: list[bytes] = []
    async with bytes_server(saying(OK, heard=heard)) as port:
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{daemon.url}/proxy/{port}/", headers={"X-Large": "a" * 60_000}) as response:
                assert response.status == 200
    assert b"a" * 60_000 in heard[0]


async def test_auth_guards_the_proxy(serve_config: Callable[..., ServeConfig]) -> None:
    heard: list[bytes] = []
    async with run_daemon(serve_config(token=TOKEN)) as daemon, bytes_server(saying(OK, heard=heard)) as port:
        async with daemon.http.get(f"/proxy/{port}/") as response:
            assert response.status == 401
    assert heard == []
