"""Uploads: both part orders, every error, and never anything but the old file or the new one."""

import asyncio
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.files.conftest import FileServer, ServeFiles
from toolbox.files import atomic
from toolbox.files.atomic import Replacement

FORM = {"Content-Type": "multipart/form-data; boundary=XbX"}


def part(name: str, content: bytes, *, filename: bool = False) -> bytes:
    more = '; filename="x"\r\nContent-Type: application/octet-stream' if filename else ""
    return f'--XbX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def path_part(key: object, path: str) -> bytes:
    return part(f"files[{key}].path", path.encode())


def file_part(key: object, content: bytes) -> bytes:
    return part(f"files[{key}].file", content, filename=True)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XbX--\r\n"


async def bulk(server: FileServer, body: Any) -> tuple[int, Any]:
    return await server.call("POST", "/files/bulk-upload", data=body, headers=FORM)


def tree(work: Path) -> dict[str, bytes]:
    return {str(each.relative_to(work)): each.read_bytes() for each in work.rglob("*") if each.is_file()}


class TestBulk:
    async def test_interleaved_as_the_typescript_sdk_sends_it(self, server: FileServer) -> None:
        body = form(path_part(0, "d/e/1"), file_part(0, b"one"), path_part(1, "2"), file_part(1, b"\0\xff\r\n"))
        files = [{"path": "d/e/1", "bytes": 3}, {"path": "2", "bytes": 4}]
        assert await bulk(server, body) == (200, {"files": files})
        assert tree(server.work) == {"d/e/1": b"one", "2": b"\0\xff\r\n"}
        assert stat.S_IMODE((server.work / "d").stat().st_mode) == 0o755

    async def test_paths_first_as_the_python_sdk_sends_it(self, server: FileServer) -> None:
        absolute = str(server.work / "two")
        body = form(path_part(0, " one \n"), path_part(1, absolute), file_part(1, b"2"), file_part(0, b"1"))
        files = [{"path": absolute, "bytes": 1}, {"path": "one", "bytes": 1}]
        assert await bulk(server, body) == (200, {"files": files})
        assert tree(server.work) == {"one": b"1", "two": b"2"}

    async def test_chunked_in_pieces_of_any_size(self, server: FileServer) -> None:
        content = os.urandom(300_000)
        body = form(path_part("x]y", "f"), file_part("x]y", content))

        async def pieces() -> AsyncIterator[bytes]:
            start, size = 0, 1
            while start < len(body):
                yield body[start : start + size]
                start, size = start + size, size * 2

        assert await bulk(server, pieces()) == (200, {"files": [{"path": "f", "bytes": 300_000}]})
        assert tree(server.work) == {"f": content}

    async def test_big_contents_full_of_almost_boundaries(self, server: FileServer) -> None:
        content = b"\r\n--XbX-\r\n--Xb\r" * 400_000
        body = form(path_part(0, "f"), file_part(0, content), path_part(1, "g"), file_part(1, b""))
        status, answer = await bulk(server, body)
        assert (status, answer["files"][0]["bytes"]) == (200, len(content))
        assert tree(server.work) == {"f": content, "g": b""}

    async def test_nothing_to_store(self, server: FileServer) -> None:
        assert await bulk(server, form()) == (200, {"files": []})
        assert await bulk(server, form(part("other", b"zz"), path_part(0, "x"))) == (200, {"files": []})
        assert tree(server.work) == {}

    async def test_a_tilde_is_a_name(self, server: FileServer) -> None:
        await bulk(server, form(path_part(0, "~/x"), file_part(0, b"1")))
        assert tree(server.work) == {"~/x": b"1"}

    async def test_what_failed_is_told_and_the_rest_is_stored(self, server: FileServer) -> None:
        (server.work / "dir").mkdir()
        (server.work / "file").write_text("old")
        os.mkfifo(server.work / "fifo")
        body = form(
            *(path_part(0, "good"), file_part(0, b"1")),
            *(path_part(1, "dir"), file_part(1, b"1")),
            *(path_part(2, "  "), file_part(2, b"1")),
            *(path_part(3, "file/x"), file_part(3, b"1" * 3_000_000)),
            *(path_part(4, "fifo"), file_part(4, b"1")),
            *(path_part(5, "x" * 300), file_part(5, b"1")),
            *(path_part(6, "y" * 20_000), file_part(6, b"1")),
            *(path_part(7, "last"), file_part(7, b"1")),
        )
        answer = await server.refused(400, "INVALID_FILE_PATH", "POST", "/files/bulk-upload", data=body, headers=FORM)
        assert answer["files"] == [{"path": "good", "bytes": 1}, {"path": "last", "bytes": 1}]
        starts = [
            "dir: ",
            "path[2]: empty path",
            "file[2]: missing",
            "file/x: ",
            "fifo: ",
            "x" * 300,
            "path[6]",
            "file[6]",
        ]
        assert [error.startswith(start) for error, start in zip(answer["errors"], starts, strict=True)] == [True] * 8
        assert tree(server.work) == {"good": b"1", "last": b"1", "file": b"old"}

    async def test_a_file_before_its_path(self, server: FileServer) -> None:
        body = form(file_part(0, b"1"), path_part(0, "late"))
        answer = await server.refused(400, "BAD_REQUEST", "POST", "/files/bulk-upload", data=body, headers=FORM)
        assert (answer["errors"], answer["files"]) == (["file[0]: missing .path metadata"], [])

    @pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "multipart/mixed; boundary=XbX", ""])
    async def test_no_form(self, server: FileServer, content_type: str) -> None:
        options: Any = {"data": b"zz", "headers": {"Content-Type": content_type}}
        answer = await server.refused(400, "BAD_REQUEST", "POST", "/files/bulk-upload", **options)
        assert answer["errors"] == ["invalid multipart form"]

    async def test_no_body(self, server: FileServer) -> None:
        answer = await server.refused(400, "BAD_REQUEST", "POST", "/files/bulk-upload")
        assert answer["errors"] == ["invalid multipart form"]

    async def test_a_form_cut_at_every_byte_stores_whole_files_or_none(self, server: FileServer) -> None:
        (server.work / "b").write_text("old")
        body = form(path_part(0, "a"), file_part(0, b"AA\r"), path_part(1, "b"), file_part(1, b"new"))
        for stop in range(len(body) - 2):
            status, answer = await bulk(server, body[:stop])
            assert (status, answer["code"]) == (400, "BAD_REQUEST"), body[:stop]
            stored = tree(server.work)
            assert stored["b"] in (b"old", b"new")
            assert stored.get("a") in (None, b"AA\r")
            assert [each["path"] for each in answer["files"]] == [name for name in ("a",) if name in stored] + [
                name for name in ("b",) if stored[name] == b"new"
            ]
            (server.work / "a").unlink(missing_ok=True)
            (server.work / "b").write_text("old")
        assert server.leftovers() == []

    async def test_ten_thousand_parts(self, server: FileServer) -> None:
        paths = [path_part(number, f"d{number % 10}/{number}") for number in range(5000)]
        files = [file_part(number, b"%d" % number) for number in range(5000)]
        status, answer = await bulk(server, form(*paths, *files))
        assert (status, len(answer["files"])) == (200, 5000)
        assert tree(server.work) == {f"d{number % 10}/{number}": b"%d" % number for number in range(5000)}


async def raw_answer(server: FileServer, *pieces: bytes) -> bytes:
    """Send a request as it is and return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)  # so that it is usually read by itself
    answer = await asyncio.wait_for(reader.read(-1), 10)
    writer.close()
    return answer


@pytest.mark.parametrize("route", ["/files/bulk-upload", "/files/upload-v2?path=f", "/files/upload?path=f"])
async def test_a_body_that_is_malformed_http(server: FileServer, route: str) -> None:
    chunk = form(path_part(0, "f"), file_part(0, b"x"))[:-20]
    head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    head += f"Content-Type: {FORM['Content-Type']}\r\n\r\n{len(chunk):x}\r\n"
    answer = await raw_answer(server, head.encode() + chunk, b"\r\nnot a size\r\n")
    assert answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")
    assert b'"source":"DAYTONA_DAEMON"' in answer
    assert tree(server.work) == {}


class TestOne:
    @pytest.mark.parametrize("route", ["/files/upload-v2", "/files/upload"])
    async def test_a_form(self, server: FileServer, route: str) -> None:
        body = form(part("other", b"zz"), part("file", b"content", filename=True), part("file", b"second"))
        expected = {"name": "f", "path": "d/f", "type": "file"} if route.endswith("v2") else b""
        assert await server.call("POST", f"{route}?path=d/f", data=body, headers=FORM) == (200, expected)
        assert tree(server.work) == {"d/f": b"content"}

    async def test_a_raw_body(self, server: FileServer) -> None:
        for content_type in ("application/octet-stream", "text/plain", ""):
            content = os.urandom(5_000_000)
            url = "/files/upload-v2?path=d/f&expires=1&signature=x"
            options: Any = {"data": content, "headers": {"Content-Type": content_type}}
            answer = {"name": "f", "path": "d/f", "type": "file"}
            assert await server.call("POST", url, **options) == (200, answer)
            assert tree(server.work) == {"d/f": content}

    @pytest.mark.parametrize("route", ["/files/upload-v2", "/files/upload"])
    async def test_refusals(self, server: FileServer, route: str) -> None:
        (server.work / "dir").mkdir()
        body = form(part("file", b"1"))
        options: Any = {"data": body, "headers": FORM}
        await server.refused(400, "BAD_REQUEST", "POST", route, **options)
        await server.refused(400, "INVALID_FILE_PATH", "POST", f"{route}?path=dir", **options)
        await server.refused(400, "INVALID_FILE_PATH", "POST", f"{route}?path=a%00b", **options)
        options["data"] = form(part("wrong", b"1"))
        await server.refused(400, "BAD_REQUEST", "POST", f"{route}?path=f", **options)
        options["data"] = body[:-9]
        await server.refused(400, "BAD_REQUEST", "POST", f"{route}?path=f", **options)
        assert tree(server.work) == {}

    async def test_the_older_route_takes_forms_only(self, server: FileServer) -> None:
        options: Any = {"data": b"zzz", "headers": {"Content-Type": "application/octet-stream"}}
        await server.refused(400, "BAD_REQUEST", "POST", "/files/upload?path=f", **options)


async def upload(server: FileServer, path: str, content: bytes) -> int:
    return (await server.call("POST", "/files/upload-v2", params={"path": path}, data=content))[0]


class TestReplacing:
    async def test_mode_owner_and_attributes_stay(self, server: FileServer) -> None:
        file = server.work / "run.sh"
        file.write_text("old")
        if os.getuid() == 0:
            os.chown(file, 12, 34)
        file.chmod(0o6754)
        os.setxattr(file, "user.note", b"kept")
        before = file.stat()
        assert await upload(server, "run.sh", b"new") == 200
        after = file.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert os.getxattr(file, "user.note") == b"kept"
        assert (file.read_bytes(), after.st_ino != before.st_ino) == (b"new", True)

    async def test_a_new_file_has_the_usual_mode(self, server: FileServer) -> None:
        (server.work / "reference").write_text("")
        await upload(server, "f", b"1")
        assert (server.work / "f").stat().st_mode == (server.work / "reference").stat().st_mode

    async def test_links_are_followed(self, server: FileServer) -> None:
        (server.work / "d").mkdir()
        (server.work / "d/real").write_text("old")
        (server.work / "link").symlink_to("d/real")
        (server.work / "link2").symlink_to("link")
        (server.work / "dangling").symlink_to("made/by/upload")
        (server.work / "loop").symlink_to("loop")
        assert await upload(server, "link2", b"new") == 200
        assert await upload(server, "dangling", b"made") == 200
        assert await upload(server, "loop", b"x") == 400
        assert (server.work / "link").is_symlink()
        assert (server.work / "d/real").read_bytes() == b"new"
        assert (server.work / "made/by/upload").read_bytes() == b"made"

    async def test_a_reader_keeps_what_it_opened(self, server: FileServer) -> None:
        (server.work / "f").write_text("old")
        with (server.work / "f").open() as reader:
            await upload(server, "f", b"new")
            assert reader.read() == "old"

    async def test_writers_at_once(self, server: FileServer) -> None:
        contents = [bytes([letter]) * 2_500_000 for letter in b"abcdefgh"]
        statuses = await asyncio.gather(*(upload(server, "f", content) for content in contents))
        assert statuses == [200] * 8
        assert (server.work / "f").read_bytes() in contents
        assert os.listdir(server.work) == ["f"]

    async def test_durable(self, serve_files: ServeFiles) -> None:
        async with serve_files(durable=True) as server:
            assert await upload(server, "f", b"1") == 200
            assert await upload(server, "f", b"22") == 200
            assert tree(server.work) == {"f": b"22"}

    async def test_a_running_program(self, server: FileServer) -> None:
        program = server.work / "sleep"
        program.write_bytes(Path("/bin/sleep").read_bytes())
        program.chmod(0o755)
        with subprocess.Popen([program, "60"]) as child:
            assert await upload(server, "sleep", b"new") == 200
            child.kill()
        assert program.read_bytes() == b"new"

    @pytest.mark.parametrize("size", [10, 5_000_000])
    async def test_a_client_that_goes_away(self, server: FileServer, size: int) -> None:
        (server.work / "f").write_text("old")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /files/upload-v2?path=f HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size + 1}\r\n\r\n"
        writer.write(head.encode() + b"x" * size)
        await writer.drain()
        while size > 10 and not open_unnamed(server.work):
            await asyncio.sleep(0.01)
        writer.transport.abort()
        async with asyncio.timeout(10):
            while open_unnamed(server.work):
                await asyncio.sleep(0.01)
        assert tree(server.work) == {"f": b"old"}
        del reader


def open_unnamed(work: Path) -> list[str]:
    """Return the files in `work` that this process has open and that have no name."""
    links = []
    for each in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{each}"))
        except OSError:
            continue
    return [link for link in links if link.startswith(str(work)) and link.endswith(" (deleted)")]


class TestFileSystems:
    """What differs between file systems, simulated where the machine has only one kind."""

    def replace(self, path: Path, content: bytes) -> None:
        replacement = Replacement(str(path))
        try:
            replacement.write([content[:2], content[2:]])
            replacement.commit()
        finally:
            replacement.discard()

    @pytest.fixture
    def without_nameless(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.open

        def no_nameless(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(95, "operation not supported")
            return real(path, flags, mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", no_nameless)

    @pytest.fixture
    def without_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_link(*_: object, **__: object) -> None:
            raise PermissionError(1, "operation not permitted")

        monkeypatch.setattr(os, "link", no_link)

    def check(self, work: Path) -> None:
        self.replace(work / "new", b"first")
        (work / "new").chmod(0o751)
        self.replace(work / "new", b"second")
        assert (work / "new").read_bytes() == b"second"
        assert stat.S_IMODE((work / "new").stat().st_mode) == 0o751
        assert os.listdir(work) == ["new"]

    @pytest.mark.usefixtures("without_nameless")
    def test_no_nameless_files(self, work: Path) -> None:
        self.check(work)

    @pytest.mark.usefixtures("without_links")
    def test_no_links(self, work: Path) -> None:
        self.check(work)

    @pytest.mark.usefixtures("without_nameless")
    def test_an_unfinished_temporary_file_is_ours_by_name_and_goes(self, work: Path) -> None:
        replacement = Replacement(str(work / ("x" * 255)))
        replacement.write([b"1"])
        [name] = os.listdir(work)
        assert name.endswith(atomic.MARK)
        assert len(name) == 255
        replacement.discard()
        replacement.discard()
        assert os.listdir(work) == []

    def test_a_name_that_cannot_be_taken_is_written_in_place(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (work / "f").write_text("old and longer")
        inode = (work / "f").stat().st_ino

        def busy(*_: object, **__: object) -> None:
            raise OSError(16, "device or resource busy")

        monkeypatch.setattr(os, "rename", busy)
        self.replace(work / "f", b"new")
        assert ((work / "f").read_bytes(), (work / "f").stat().st_ino) == (b"new", inode)
        assert os.listdir(work) == ["f"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 1 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("not possible here: mounting a tmpfs needs root")
    yield directory
    subprocess.run(["umount", directory], check=True)


class TestFullDisk:
    async def test_the_old_file_stays_and_it_is_not_the_clients_fault(
        self, server: FileServer, small_disk: Path
    ) -> None:
        (small_disk / "f").write_text("old")
        big = b"x" * 4_000_000
        url = "/files/upload-v2"
        query = {"path": str(small_disk / "f")}
        await server.refused(507, "INSUFFICIENT_STORAGE", "POST", url, params=query, data=big)
        body = form(path_part(0, query["path"]), file_part(0, big), path_part(1, "good"), file_part(1, b"1"))
        answer = await server.refused(
            507, "INSUFFICIENT_STORAGE", "POST", "/files/bulk-upload", data=body, headers=FORM
        )
        assert answer["files"] == [{"path": "good", "bytes": 1}]
        assert len(answer["errors"]) == 1
        assert tree(small_disk) == {"f": b"old"}
        assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 900_000

    async def test_written_in_place_room_is_reserved_first(
        self, server: FileServer, small_disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(atomic, "_NO_NEW_FILE", frozenset(range(200)))
        monkeypatch.setattr(Replacement, "_create", lambda _: (_ for _ in ()).throw(OSError(13, "permission denied")))
        (small_disk / "f").write_text("old")
        query = {"path": str(small_disk / "f")}
        await server.refused(507, "INSUFFICIENT_STORAGE", "POST", "/files/upload-v2", params=query, data=b"x" * 2**21)
        assert tree(small_disk) == {"f": b"old"}
        assert await upload(server, query["path"], b"fits") == 200
        assert tree(small_disk) == {"f": b"fits"}

    async def test_an_input_output_error_is_ours(self, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> int:
            raise OSError(5, "input/output error")

        monkeypatch.setattr(os, "writev", broken)
        body = form(path_part(0, "f"), file_part(0, b"1"))
        answer = await server.refused(500, "FILE_READ_FAILED", "POST", "/files/bulk-upload", data=body, headers=FORM)
        assert answer["files"] == []
        assert tree(server.work) == {}


def test_a_bind_mounted_file_is_written_in_place(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("old")
    target.write_text("hidden")
    mounted = subprocess.run(["mount", "--bind", source, target], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("not possible here: a bind mount needs root")
    try:
        TestFileSystems().replace(target, b"new")
        assert (target.read_bytes(), source.read_bytes()) == (b"new", b"new")
        assert sorted(os.listdir(tmp_path)) == ["source", "target"]
    finally:
        subprocess.run(["umount", target], check=True)
