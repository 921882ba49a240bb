"""Requests made to be read in two ways, or to lead a server elsewhere: at the daemon, and through the control plane."""

import asyncio
import json

import pytest

from tests.conftest import Daemon
from tests.controlplane.conftest import Plane

AMBIGUOUS = (
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5_0\r\n",
    "Content-Length : 5\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "X: a\r\n Transfer-Encoding: chunked\r\n",
    "X: a\nTransfer-Encoding: chunked\r\n",
    "X: a\rTransfer-Encoding: chunked\r\n",
    "X: a\x00b\r\n",
    "X Y: b\r\n",
)
SMUGGLED = b'{"command": "touch smuggled"}'


async def exchange(origin: str, request: bytes) -> bytes:
    """Send bytes and return everything that comes back until the server closes, or says no more for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(origin.rpartition(":")[2]))
    try:
        writer.write(request)
        received = b""
        async with asyncio.timeout(20):
            while chunk := await reader.read(65536):
                received += chunk
        return received
    finally:
        writer.close()


def smuggling(prefix: str, head: str, credential: str = "") -> bytes:
    """Return a request in whose body, to who reads it the other way, another one begins."""
    inner = (
        f"POST {prefix}/process/execute HTTP/1.1\r\nHost: localhost\r\n{credential}Content-Length: {len(SMUGGLED)}\r\n"
    )
    first = f"POST {prefix}/process/execute HTTP/1.1\r\nHost: localhost\r\n{credential}{head}\r\n0\r\n\r\n"
    return (first + inner).encode("latin-1") + b"\r\n" + SMUGGLED


@pytest.mark.parametrize("head", AMBIGUOUS)
async def test_the_daemon_reads_no_request_in_two_ways(daemon: Daemon, head: str) -> None:
    answer = await exchange(daemon.url, smuggling("", head))
    assert answer.split(b"\r\n")[0].split()[1] == b"400"
    assert answer.count(b"HTTP/1.") == 1
    assert not (daemon.work_dir / "smuggled").exists()


async def test_nor_does_the_control_plane_before_it(plane: Plane) -> None:
    box = await plane.create(name="box")
    credential = f"Authorization: Bearer {plane.api_key}\r\n"
    for head in AMBIGUOUS:
        answer = await exchange(plane.origin, smuggling(f"/toolbox/{box['id']}", head, credential))
        assert answer.split(b"\r\n")[0].split()[1] == b"400", head
        assert answer.count(b"HTTP/1.") == 1, head
    # Nothing was left in a connection that others use.
    answers = await asyncio.gather(*(plane.execute(box, f"echo {number}") for number in range(8)))
    assert answers == [str(number) for number in range(8)]
    assert not (plane.home(box) / "smuggled").exists()


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["localhost", "evil.example"], (b"400", b"403")),
        (["evil.example", "localhost"], (b"400", b"403")),
        ([], (b"400", b"403")),
        (["localhost@evil.example"], (b"400", b"403")),
        (["localhost"], (b"200",)),
    ],
)
async def test_hosts_of_a_request(daemon: Daemon, hosts: list[str], status: tuple[bytes, ...]) -> None:
    head = "".join(f"Host: {host}\r\n" for host in hosts)
    answer = await exchange(daemon.url, f"GET /version HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
    assert answer.split()[1] in status


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.2", "connect-udp"])
async def test_an_upgrade_that_nobody_takes_opens_nothing(plane: Plane, protocol: str) -> None:
    """What follows on the connection is a request like any other, with its own credential or none."""
    box = await plane.create(name="box")
    target = f"/toolbox/{box['id']}/version"
    credential = f"Authorization: Bearer {plane.api_key}\r\n"
    upgrade = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Version: 13\r\n"
    key = f"Sec-WebSocket-Key: {'A' * 22}==\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(plane.origin.rpartition(":")[2]))
    statuses = []
    try:
        async with asyncio.timeout(20):
            for head in (credential + upgrade + key, ""):
                writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
                answer = (await reader.readuntil(b"\r\n\r\n")).decode()
                statuses.append(answer.split()[1])
                await reader.readexactly(int(answer.lower().partition("content-length: ")[2].split()[0]))
    finally:
        writer.close()
    assert statuses == ["200", "401"]
    connect = await exchange(
        plane.origin, b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert connect.split()[1] in (b"400", b"401", b"404", b"405")


async def test_headers_named_in_connection_take_no_credential_away(plane: Plane) -> None:
    box = await plane.create(name="box")
    named = {"Connection": "keep-alive, authorization, x-request-id, host, content-length"}
    answer = await plane.toolbox("GET", box, "/version", headers=named)
    assert answer["version"]
    forged = {"X-Daytona-Preview-Token": "wrong", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost"}
    async with plane.http.get(f"{plane.origin}/toolbox/{box['id']}/version", headers=forged) as response:
        assert response.status == 200
    async with plane.http.get(
        f"{plane.origin}/toolbox/{box['id']}/version", headers=forged | {"Authorization": "Bearer wrong"}
    ) as response:
        assert response.status == 401


async def test_the_way_to_its_own_port_brings_a_stranger(plane: Plane) -> None:
    """Sandboxes of the process driver share a loopback interface with the control plane: no credential goes there."""
    box = await plane.create(name="box", public=True)
    own = int(plane.origin.rpartition(":")[2])
    tokens = await plane.call("GET", f"/sandbox/{box['id']}/ports/{own}/preview-url")
    credentials: tuple[dict[str, str], ...] = (
        {"Authorization": f"Bearer {plane.api_key}"},
        {"Authorization": f"Bearer {plane.api_key}", "X-Daytona-Preview-Token": tokens["token"]},
    )
    for way in (f"/toolbox/{box['id']}/proxy/{own}", f"/preview/{own}/{box['id']}"):
        for headers in credentials:
            for query in ("", f"?DAYTONA_SANDBOX_AUTH_KEY={plane.api_key}"):
                url = f"{plane.origin}{way}/api/sandbox{query}"
                async with plane.http.get(url, headers=headers) as response:
                    assert response.status == 401, (way, headers, query)
                    assert json.loads(await response.read())["path"] == "/api/sandbox"


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "/proxy/127.0.0.1:80/",
        "/proxy/80@169.254.169.254/",
        "/proxy/80.evil.example/",
        "/proxy/localhost/",
        "/proxy/0/",
        "/proxy/65536/",
        "/proxy/+80/",
        "/proxy/8e1/",
        "/proxy/0x50/",
        "/proxy/%2e%2e/",
        "/proxy//evil.example/",
        "/proxy/-1/",
    ],
)
async def test_no_address_but_loopback_ports(daemon: Daemon, target: str) -> None:
    answer = await exchange(
        daemon.url, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.split()[1] in (b"400", b"404")


async def test_the_daemons_own_port_is_refused_by_every_spelling(daemon: Daemon) -> None:
    port = daemon.url.rpartition(":")[2]
    for target in (
        f"/proxy/{port}/version",
        f"/proxy/{port}",
        f"//proxy//{port}/version",
        f"/proxy/{port}/proxy/{port}/version",
    ):
        answer = await exchange(
            daemon.url, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.split()[1] == b"400", target


NAMES = (
    "../../escape",
    "..",
    "%2e%2e%2fescape",
    "/escape",
    "a/b",
    "a%2Fb",
    ".",
    "%00",
    "a%00b",
    "~",
    "$(touch escape)",
    "*",
)
ROUTES = (
    ("GET", "/process/session/{}"),
    ("DELETE", "/process/session/{}"),
    ("GET", "/process/session/{}/command/{}/logs"),
    ("GET", "/process/pty/{}"),
    ("DELETE", "/process/pty/{}"),
    ("DELETE", "/process/interpreter/context/{}"),
    ("GET", "/computeruse/recordings/{}"),
    ("DELETE", "/computeruse/recordings/{}"),
    ("GET", "/computeruse/recordings/{}/download"),
    ("GET", "/computeruse/process/{}/logs"),
    ("GET", "/computeruse/vnc/{}"),
)


async def test_names_are_no_paths(daemon: Daemon) -> None:
    """A file beside every directory that one could think of: nobody gets to it by a name."""
    for place in (daemon.work_dir, daemon.state_dir, daemon.work_dir.parent):
        (place / "escape").write_text("treasure")
        (place / "escape.mp4").write_text("treasure")
    before = {each for each in daemon.work_dir.parent.rglob("*") if each.name.startswith("escape")}
    for name in NAMES:
        for method, path in ROUTES:
            target = path.replace("{}", name)
            head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            answer = await exchange(daemon.url, head.encode())
            assert answer.split()[1] in (b"400", b"404", b"405", b"503"), (method, target)
            assert b"treasure" not in answer
    for path, field in (
        ("/process/session", "sessionId"),
        ("/process/pty", "id"),
        ("/computeruse/recordings/stop", "id"),
        ("/computeruse/recordings/start", "label"),
    ):
        for name in ("../../made", "/tmp/made", "a/b", "a\0b", ".."):
            async with daemon.http.post(path, json={field: name}) as response:
                assert response.status < 500 or response.status == 503
    assert {each for each in daemon.work_dir.parent.rglob("*") if each.name.startswith("escape")} == before
    assert not list(daemon.work_dir.parent.rglob("made*"))
