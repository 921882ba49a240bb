"""Random websocket messages, forms and archives: no server fails by them, and nothing gets out of its place."""

import asyncio
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.conftest import TOKEN, some
from tests.fuzz.servers import URL, Server

_numbers = count()

WORDS = (
    "type",
    "resize",
    "cols",
    "rows",
    "code",
    "contextId",
    "envs",
    "timeout",
    "input",
    "data",
    "jsonrpc",
    "id",
    "method",
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.text(max_size=200)
    | st.binary(max_size=200)
    | VALUES.map(json.dumps)
    | VALUES.map(lambda value: f"Content-Length: {len(json.dumps(value))}\r\n\r\n{json.dumps(value)}")
    | st.sampled_from(["2probe", "40", '40{"token": "x"}', "41", "42[]", "\0", "x" * 100_000, b"\xff" * 70_000]),
    max_size=8,
)
SOCKETS = (
    "/process/pty/create-connect?id=fuzz{}",
    "/process/interpreter/execute",
    "/lsp/connect?languageId=python&pathToProject=repository",
    "/computeruse/screenshot/stream?fuzz={}",
    "/files/watch?path=.",
)


async def converse(server: Server, path: str, messages: Sequence[str | bytes], garbage: bytes) -> None:
    """Say all that, read what is answered, and see the connection end as one should."""
    connector = aiohttp.TCPConnector(socket_factory=lambda _: server.network.socket())
    async with aiohttp.ClientSession(URL, connector=connector) as http, asyncio.timeout(60):
        async with http.ws_connect(path.format(next(_numbers)), max_msg_size=0) as ws:
            with suppress(ConnectionError):
                for message in messages:
                    await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
                if garbage:
                    transport = ws._response.connection and ws._response.connection.transport
                    assert transport is not None
                    transport.write(garbage)
            await ws.close()
            assert ws.close_code != aiohttp.WSCloseCode.INTERNAL_ERROR, ws.close_code


@pytest.mark.parametrize("path", SOCKETS)
def test_websockets(open_daemon: Server, path: str) -> None:
    if "computeruse" in path:
        open_daemon.session.post(f"{URL}/computeruse/start", timeout=60).raise_for_status()

    @some(8)
    @given(messages=MESSAGES, garbage=st.just(b"") | st.binary(max_size=50))
    def search(messages: Sequence[str | bytes], garbage: bytes) -> None:
        asyncio.run(converse(open_daemon, path, messages, garbage))
        assert open_daemon.session.get(f"{URL}/healthz", timeout=30).ok

    search()
    for pty in open_daemon.session.get(f"{URL}/process/pty", timeout=30).json()["sessions"]:
        if pty["id"].startswith("fuzz"):
            open_daemon.session.delete(f"{URL}/process/pty/{pty['id']}", timeout=60)


def test_events(control_plane: Server) -> None:
    @some(8)
    @given(messages=MESSAGES, garbage=st.just(b"") | st.binary(max_size=50))
    def search(messages: Sequence[str | bytes], garbage: bytes) -> None:
        hello = "40" + json.dumps({"token": TOKEN})
        path = "/api/socket.io/?EIO=4&transport=websocket"
        asyncio.run(converse(control_plane, path, [hello, *messages], garbage))
        assert control_plane.session.get(f"{URL}/healthz", timeout=30).ok

    search()


@contextmanager
def nothing_outside(server: Server, inside: str) -> Iterator[None]:
    """Fail when something comes or goes beside a directory of the work dir."""

    def files() -> set[Path]:
        place = server.directory
        found = {*place.iterdir(), *(place / "home").iterdir(), *(place / "work").iterdir()}
        return found - {place / "work" / inside}

    before = files()
    yield
    assert files() == before


PART_NAMES = st.sampled_from(
    ["file", "path", "files[0].path", "files[0].file", "files[1].file", "files[x].path", "files[99999999999].file", ""]
)
PATHS = st.sampled_from(["in/a", "in/b/c", "in/../in/d", "in", "", "in/\0", "in/" + "n" * 300]) | st.text(
    max_size=8
).map("in/{}".format)
PARTS = st.lists(st.tuples(PART_NAMES, PATHS | st.text(max_size=30), st.booleans()), max_size=5)


def form(parts: Sequence[tuple[str, str, bool]]) -> bytes:
    """Return a multipart body."""
    out = b""
    for name, content, is_file in parts:
        filename = '; filename="x"' if is_file else ""
        out += f'--B\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode()
        out += content.encode("utf-8", "surrogatepass") + b"\r\n"
    return out + b"--B--\r\n"


def mutated(draw: Any, data: bytes) -> bytes:
    """Return data with a few bytes changed, left out or doubled, or cut short."""
    body = bytearray(data)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        match draw(st.sampled_from(["change", "cut", "insert", "drop"])):
            case "change" if body:
                body[at] = draw(st.integers(0, 255))
            case "cut":
                del body[at:]
            case "insert":
                body[at:at] = draw(st.binary(min_size=1, max_size=20))
            case _:
                del body[at : at + draw(st.integers(1, 40))]
    return bytes(body)


def answered(server: Server, path: str, data: bytes, content_type: str) -> None:
    """Fail unless the answer is a success or an ordinary error."""
    response = server.session.post(f"{URL}{path}", data=data, headers={"Content-Type": content_type}, timeout=60)
    assert response.status_code < 500 or response.status_code == 507, response.text
    if not response.ok and response.status_code != 207:
        answer = response.json()
        assert answer["statusCode"] == response.status_code


TYPES = ("multipart/form-data; boundary=B", "multipart/form-data", 'multipart/form-data; boundary=""', "text/plain")


@pytest.mark.parametrize("path", ["/files/bulk-upload", "/files/upload-v2?path=in/one", "/files/upload?path=in/one"])
def test_forms(open_daemon: Server, path: str) -> None:
    @some(25)
    @given(data=st.data(), parts=PARTS, content_type=st.sampled_from(TYPES))
    def search(data: st.DataObject, parts: Sequence[tuple[str, str, bool]], content_type: str) -> None:
        answered(open_daemon, path, mutated(data.draw, form(parts)), content_type)

    search()


KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S", b"Z"]
)
MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["a", "d/b", "d", "../out", "/out", "d/../../out", "l/x", "l"]) | st.text(max_size=8),
        KINDS,
        st.sampled_from(["..", "/", "a", "../..", "d/b", ""]),
        st.integers(0, 1500),
        st.integers(0, 0o7777),
        st.integers(-5, 2**40),
    ),
    max_size=6,
)


def archive(members: Sequence[tuple[str, bytes, str, int, int, int]], form: int) -> bytes:
    """Return a tar archive; what its format cannot hold is left out."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, kind, link, size, mode, moment in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode, member.mtime = kind, link, mode, moment
            member.size = size if kind == tarfile.REGTYPE else 0
            with suppress(ValueError, UnicodeError):
                tar.addfile(member, io.BytesIO(b"x" * size))
    return buffer.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives(open_daemon: Server, form: int) -> None:
    @some(25)
    @given(data=st.data(), members=MEMBERS)
    def search(data: st.DataObject, members: Sequence[tuple[str, bytes, str, int, int, int]]) -> None:
        with nothing_outside(open_daemon, "unpacked"):
            answered(
                open_daemon,
                "/files/archive?path=unpacked",
                mutated(data.draw, archive(members, form)),
                "application/x-tar",
            )

    search()
