"""Downloads: headers, ranges, forms, and broken-off answers rather than wrong ones."""

import asyncio
import email.message
import email.parser
import email.policy
import json
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest

from tests.files.conftest import FileServer
from toolbox.web import downloads, sending
from toolbox.web.file_response import disposition, page_disposition

BIG = 3_000_000


async def fetch(server: FileServer, path: str, *, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    url = "/files/download"
    async with server.http.request(method, url, params={"path": path}, headers=names) as response:
        return response.status, response.headers, await response.read()


def written(work: Path, name: str, size: int) -> bytes:
    content = os.urandom(size)
    (work / name).write_bytes(content)
    return content


class TestOne:
    @pytest.mark.parametrize("size", [0, 1, downloads.IN_ONE_PIECE, downloads.IN_ONE_PIECE + 1, BIG])
    async def test_contents_of_all_sizes(self, server: FileServer, size: int) -> None:
        content = written(server.work, "f", size)
        status, headers, body = await fetch(server, "f")
        assert (status, body) == (200, content)
        assert headers["Content-Length"] == str(size)

    async def test_headers(self, server: FileServer) -> None:
        written(server.work, "a.txt", 20)
        os.utime(server.work / "a.txt", ns=(0, 1_795_454_028_900_000_000))
        _, headers, _ = await fetch(server, "a.txt")
        expected = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "must-revalidate",
            "Content-Description": "File Transfer",
            "Content-Disposition": "attachment; filename=\"a.txt\"; filename*=utf-8''a.txt",
            "Content-Length": "20",
            "Content-Transfer-Encoding": "binary",
            "Content-Type": "application/octet-stream",
            "Expires": "0",
            "Last-Modified": "Mon, 23 Nov 2026 17:13:48 GMT",
            "Pragma": "public",
        }
        assert {name: headers[name] for name in expected} == expected
        assert re.fullmatch('"[0-9a-f-]+"', headers["ETag"])

    async def test_links_are_followed_and_named(self, server: FileServer) -> None:
        content = written(server.work, "f", 10)
        (server.work / "link").symlink_to("f")
        _, headers, body = await fetch(server, "link")
        assert (body, 'filename="link"' in headers["Content-Disposition"]) == (content, True)

    @pytest.mark.parametrize("size", [0, 10, BIG])
    async def test_head(self, server: FileServer, size: int) -> None:
        written(server.work, "f", size)
        status, headers, body = await fetch(server, "f", method="HEAD")
        assert (status, headers["Content-Length"], body) == (200, str(size), b"")
        assert "ETag" in headers

    @pytest.mark.parametrize("size", [1000, BIG])
    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("0-0", 0, 1),
            ("1-3", 1, 4),
            ("10-", 10, None),
            ("-7", -7, None),
            ("990-99999999", 990, None),
            ("5-999", 5, 1000),
        ],
    )
    async def test_ranges(self, server: FileServer, size: int, asked: str, start: int, stop: int | None) -> None:
        content = written(server.work, "f", size)
        status, headers, body = await fetch(server, "f", Range=f"bytes={asked}")
        assert (status, body) == (206, content[start:stop])
        first = start % size
        assert headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{size}"

    @pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
    async def test_ranges_behind_the_end(self, server: FileServer, asked: str) -> None:
        written(server.work, "f", 1000)
        url = "/files/download?path=f"
        await server.refused(416, "RANGE_NOT_SATISFIABLE", "GET", url, headers={"Range": asked})
        status, headers, _ = await fetch(server, "f", Range=asked)
        assert (status, headers["Content-Range"]) == (416, "bytes */1000")

    @pytest.mark.parametrize("asked", ["bytes=5-1", "bytes=a-b", "lines=1-2", "bytes=-", "bytes=0-1,3-4"])
    async def test_what_is_no_single_range_means_all(self, server: FileServer, asked: str) -> None:
        content = written(server.work, "f", 1000)
        status, _, body = await fetch(server, "f", Range=asked)
        assert (status, body) == (200, content)

    async def test_validators(self, server: FileServer) -> None:
        content = written(server.work, "f", 1000)
        _, headers, _ = await fetch(server, "f")
        tag, modified = headers["ETag"], headers["Last-Modified"]
        for good in ({"If_None_Match": tag}, {"If_None_Match": f'"x", W/{tag}'}, {"If_None_Match": "*"}):
            status, got, body = await fetch(server, "f", **good)
            assert (status, body, got["ETag"]) == (304, b"", tag)
        assert (await fetch(server, "f", If_Modified_Since=modified))[0] == 304
        assert (await fetch(server, "f", If_Modified_Since="Sun, 01 Jan 2006 00:00:00 GMT"))[0] == 200
        assert (await fetch(server, "f", If_None_Match='"x"', If_Modified_Since=modified))[0] == 200
        for still, status in ((tag, 206), (modified, 206), ('"x"', 200), ("Sun, 01 Jan 2006 00:00:00 GMT", 200)):
            assert (await fetch(server, "f", Range="bytes=1-2", If_Range=still))[0] == status
        (server.work / "f").write_bytes(content[::-1])
        assert (await fetch(server, "f", If_None_Match=tag))[0] == 200

    async def test_what_is_no_file_is_refused_at_once(self, server: FileServer) -> None:
        os.mkfifo(server.work / "fifo")
        (server.work / "dir").mkdir()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.relpath(server.work / "socket"))
        listener.close()
        for path in ("fifo", "dir", "socket", "/dev/zero", "/dev/null"):
            await server.refused(400, "INVALID_FILE_PATH", "GET", f"/files/download?path={path}")

    async def test_files_of_the_kernel(self, server: FileServer) -> None:
        status, _, body = await fetch(server, "/proc/self/status")
        assert (status, body.startswith(b"Name:")) == (200, True)
        status, _, body = await fetch(server, "/sys/kernel/mm/transparent_hugepage/enabled")
        assert (status, body.endswith(b"\n")) == (200, True)

    async def test_a_precompressed_neighbour_is_not_served(self, server: FileServer) -> None:
        content = written(server.work, "f", 100)
        written(server.work, "f.gz", 50)
        _, headers, body = await fetch(server, "f", Accept_Encoding="gzip")
        assert (body, "Content-Encoding" in headers) == (content, False)


@pytest.mark.parametrize("fallback", [False, True])
class TestChangingFiles:
    @pytest.fixture(autouse=True)
    def way_of_sending(self, fallback: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if fallback:
            monkeypatch.setattr(sending, "_can_push", lambda _: False)

    def change_when_open(self, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
        entered = downloads.Download.__aenter__

        async def enter(download: downloads.Download) -> downloads.Download:
            result = await entered(download)
            await asyncio.to_thread(change)
            return result

        monkeypatch.setattr(downloads.Download, "__aenter__", enter)

    async def test_all_is_sent(self, server: FileServer) -> None:
        content = written(server.work, "f", BIG)
        assert (await fetch(server, "f"))[2] == content
        assert (await fetch(server, "f", Range="bytes=5-"))[2] == content[5:]

    async def test_one_that_shrinks(self, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
        for size in (10, BIG - 1):
            written(server.work, "f", BIG)
            with monkeypatch.context() as patch:
                self.change_when_open(patch, lambda size=size: os.truncate(server.work / "f", size))
                with pytest.raises(aiohttp.ClientError):
                    await fetch(server, "f")
                written(server.work, "f", BIG)
                with pytest.raises(aiohttp.ClientError):
                    await bulk(server, ["f"])

    async def test_one_that_is_written_over(self, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
        written(server.work, "f", BIG)
        os.utime(server.work / "f", ns=(0, 0))

        def change() -> None:
            with (server.work / "f").open("r+b") as file:
                file.write(b"new")

        self.change_when_open(monkeypatch, change)
        with pytest.raises(aiohttp.ClientError):
            await fetch(server, "f")
        os.utime(server.work / "f", ns=(0, 0))
        with pytest.raises(aiohttp.ClientError):
            await bulk(server, ["f"])

    async def test_one_that_grows_is_sent_as_it_began(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = written(server.work, "log", BIG)

        def change() -> None:
            with (server.work / "log").open("ab") as file:
                file.write(b"one more line")

        self.change_when_open(monkeypatch, change)
        assert (await fetch(server, "log"))[2] == content
        change_free = (server.work / "log").read_bytes()
        (_, _, body), *_ = await bulk(server, ["log"])
        assert body == change_free

    async def test_one_that_is_replaced_is_sent_as_it_was(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = written(server.work, "f", BIG)

        def change() -> None:
            (server.work / "new").write_bytes(b"new")
            (server.work / "new").rename(server.work / "f")

        self.change_when_open(monkeypatch, change)
        assert (await fetch(server, "f"))[2] == content

    async def test_a_slow_client_gets_all(self, server: FileServer) -> None:
        content = written(server.work, "f", 12_000_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 16)
        writer.write(b"GET /files/download?path=f HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        assert (await server.call("GET", "/files/info?path=f"))[0] == 200
        assert await reader.read(-1) == content
        writer.close()
        await writer.wait_closed()

    async def test_a_client_that_goes_away(self, server: FileServer) -> None:
        written(server.work, "f", 50_000_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 16)
        writer.write(b"GET /files/download?path=f HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        async with asyncio.timeout(10):
            while any(link_of(each) == str(server.work / "f") for each in os.listdir("/proc/self/fd")):
                await asyncio.sleep(0.01)


def link_of(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


async def bulk(server: FileServer, paths: list[str]) -> list[tuple[str, str, bytes]]:
    """Return (part name, file name, content) of the parts of a bulk download."""
    async with server.http.post("/files/bulk-download", json={"paths": paths}) as response:
        assert response.status == 200
        content_type = response.headers["Content-Type"]
        body = await response.read()
    parser = email.parser.BytesParser(policy=email.policy.compat32)
    message = parser.parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    found = []
    for each in message.get_payload():
        assert isinstance(each, email.message.Message)
        content = each.get_payload(decode=True)
        assert isinstance(content, bytes)
        if each["Content-Length"] is not None:
            assert int(each["Content-Length"]) == len(content)
        name = str(each.get_param("name", header="content-disposition"))
        exact = str(each["Content-Disposition"]).partition("filename*=utf-8''")[2]
        found.append((name, unquote(exact), content))
    return found


class TestBulk:
    async def test_files_in_order_and_errors_among_them(self, server: FileServer) -> None:
        small, big = written(server.work, "small.txt", 20), written(server.work, "big", BIG)
        (server.work / "dir").mkdir()
        (server.work / "empty").write_text("")
        (server.work / "loop").symlink_to("loop")
        os.mkfifo(server.work / "fifo")
        asked = [
            "small.txt",
            "none",
            "big",
            "dir",
            "",
            "empty",
            "fifo",
            "loop",
            "small.txt/x",
            "a\0b",
            "x" * 300,
            "big",
        ]
        parts = await bulk(server, asked)
        assert [name for name, _, _ in parts] == [
            *("file", "error", "file", "error", "error", "file"),
            *("error", "error", "error", "error", "error", "file"),
        ]
        assert [parts[at][2] for at in (0, 2, 5, 11)] == [small, big, b"", big]
        errors = {at: json.loads(parts[at][2]) for at in (1, 3, 4, 6, 7, 8, 9, 10)}
        assert {at: (error["statusCode"], error["code"]) for at, error in errors.items()} == {
            1: (404, "FILE_NOT_FOUND"),
            **dict.fromkeys((3, 4, 6, 7, 8, 9, 10), (400, "INVALID_FILE_PATH")),
        }
        for at, error in errors.items():
            assert (error["source"], error["path"], error["method"]) == ("DAYTONA_DAEMON", asked[at], "POST")

    async def test_names_come_back_exactly(self, server: FileServer) -> None:
        names = [
            'h\u00e9llo "q" \u4f60.txt',
            "a%20b;c",
            "back\\slash",
            "line\nend",
            "\U0001f600",
            str(server.work / "f"),
        ]
        for name in names:
            (server.work / name).write_text(name)
        assert [(name, content.decode()) for _, name, content in await bulk(server, names)] == [
            (name, name) for name in names
        ]

    async def test_each_answer_has_its_own_boundary(self, server: FileServer) -> None:
        boundaries = set()
        for _ in range(3):
            async with server.http.post("/files/bulk-download", json={"paths": ["x"]}) as response:
                boundaries.add(response.headers["Content-Type"].partition("boundary=")[2])
        assert len(boundaries) == 3

    async def test_a_content_that_looks_like_the_form(self, server: FileServer) -> None:
        content = b"A\r\n--DAYTONA-FILE-BOUNDARY--\r\n" * 3
        (server.work / "f").write_bytes(content)
        assert (await bulk(server, ["f"]))[0][2] == content

    async def test_an_old_client(self, server: FileServer) -> None:
        content = written(server.work, "f", BIG)
        body = b'{"paths":["f"]}'
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /files/bulk-download HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read(-1)
        assert b"chunked" not in answer.partition(b"\r\n\r\n")[0]
        assert content in answer
        assert answer.endswith(b"--\r\n")
        writer.close()
        await writer.wait_closed()

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"paths":[]}', b'{"paths":null}', b'{"paths":"x"}'])
    async def test_refusals(self, server: FileServer, body: bytes) -> None:
        await server.refused(400, "INVALID_REQUEST_BODY", "POST", "/files/bulk-download", data=body)

    async def test_many_small_files(self, server: FileServer) -> None:
        for number in range(1000):
            (server.work / str(number)).write_text(f"{number} " * 100)
        parts = await bulk(server, [str(number) for number in range(1000)])
        assert [content.decode() for _, _, content in parts] == [f"{number} " * 100 for number in range(1000)]


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.txt", "x; filename=\"a b.txt\"; filename*=utf-8''a%20b.txt"),
        ("é", "x; filename=\"_\"; filename*=utf-8''%C3%A9"),
        ('q"\\\r\n', "x; filename=\"q__\"; filename*=utf-8''q%22%5C%0D%0A"),
        ("d/" + "n" * 300, f"x; filename=\"{'n' * 255}\"; filename*=utf-8''d%2F{'n' * 300}"),
        ("t/a~b|c(d", "x; filename=\"t/a~b|c(d\"; filename*=utf-8''t%2Fa~b|c%28d"),
    ],
)
def test_disposition(name: str, header: str) -> None:
    assert disposition("x", name) == header


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a b", "a b"),
        ("naïve/日本 語", "naïve/日本 語"),
        ('é"\\\r\n', "é__"),
        ("日" * 85, "日" * 85),
        ("日" * 86, "_" * 86),
    ],
)
def test_a_page_is_told_names_in_utf8(name: str, plain: str) -> None:
    value, _, exact = page_disposition("x", name).rpartition("; filename*=utf-8''")
    assert (value, unquote(exact)) == (f'x; filename="{plain}"', name)
