"""Listing and inspecting, in the reference daemon's words."""

import os
import stat
from pathlib import Path

import pytest

from tests.files.conftest import FileServer
from toolbox.files import listing

STAMP = 1_795_453_950_153_976_055  # 2026-11-23 17:12:30.153976055 UTC


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (stat.S_IFREG | 0o644, "-rw-r--r--"),
        (stat.S_IFDIR | 0o755, "drwxr-xr-x"),
        (stat.S_IFDIR | 0o2775, "dgrwxrwxr-x"),
        (stat.S_IFREG | 0o4755, "urwxr-xr-x"),
        (stat.S_IFDIR | 0o1777, "dtrwxrwxrwx"),
        (stat.S_IFIFO | 0o644, "prw-r--r--"),
        (stat.S_IFCHR | 0o666, "Dcrw-rw-rw-"),
        (stat.S_IFBLK | 0o660, "Drw-rw----"),
        (stat.S_IFSOCK | 0o755, "Srwxr-xr-x"),
        (stat.S_IFLNK | 0o777, "Lrwxrwxrwx"),
    ],
)
def test_modes(mode: int, text: str) -> None:
    assert listing.mode_text(mode) == text


@pytest.mark.parametrize(
    ("nanoseconds", "spaced", "joined"),
    [
        (STAMP, "2026-11-23 17:12:30.153976055 +0000 UTC", "2026-11-23T17:12:30.153976055Z"),
        (STAMP // 10**9 * 10**9, "2026-11-23 17:12:30 +0000 UTC", "2026-11-23T17:12:30Z"),
        (10_000_000, "1970-01-01 00:00:00.01 +0000 UTC", "1970-01-01T00:00:00.01Z"),
        (-1, "1969-12-31 23:59:59.999999999 +0000 UTC", "1969-12-31T23:59:59.999999999Z"),
        (10**30, "9999-12-31 23:59:59 +0000 UTC", "9999-12-31T23:59:59Z"),
    ],
)
def test_times(nanoseconds: int, spaced: str, joined: str) -> None:
    assert listing.time_texts(nanoseconds) == (spaced, joined)


async def test_info(server: FileServer) -> None:
    file = server.work / "a.txt"
    file.write_bytes(b"x" * 30)
    file.chmod(0o640)
    os.utime(file, ns=(STAMP, STAMP))
    assert await server.call("GET", "/files/info?path=a.txt") == (
        200,
        {
            "name": "a.txt",
            "size": 30,
            "mode": "-rw-r-----",
            "modTime": "2026-11-23 17:12:30.153976055 +0000 UTC",
            "modifiedAt": "2026-11-23T17:12:30.153976055Z",
            "isDir": False,
            "owner": str(os.getuid()),
            "group": str(os.getgid()),
            "permissions": "0640",
            "path": str(file),
        },
    )


@pytest.mark.parametrize(("path", "name"), [(".", "."), ("/", "/"), ("d/", "d"), ("d/../d", "d"), ("to-d", "to-d")])
async def test_info_of_directories(server: FileServer, path: str, name: str) -> None:
    (server.work / "d").mkdir()
    (server.work / "to-d").symlink_to("d")
    status, info = await server.call("GET", "/files/info", params={"path": path})
    assert (status, info["name"], info["isDir"]) == (200, name, True)


async def test_info_of_special_files(server: FileServer) -> None:
    os.mkfifo(server.work / "fifo")
    _, info = await server.call("GET", "/files/info?path=fifo")
    assert info["mode"][0] == "p"
    _, info = await server.call("GET", "/files/info?path=/dev/null")
    assert (info["mode"], info["size"]) == ("Dcrw-rw-rw-", 0)


@pytest.mark.parametrize("route", ["/files", "/files/info", "/files/download"])
async def test_what_cannot_be_looked_at(server: FileServer, route: str) -> None:
    (server.work / "file").write_text("x")
    (server.work / "loop").symlink_to("loop")
    await server.refused(404, "FILE_NOT_FOUND", "GET", f"{route}?path=none")
    await server.refused(404, "FILE_NOT_FOUND", "GET", f"{route}?path=~")
    await server.refused(400, "INVALID_FILE_PATH", "GET", f"{route}?path=file/x")
    await server.refused(400, "INVALID_FILE_PATH", "GET", f"{route}?path=loop")
    await server.refused(400, "INVALID_FILE_PATH", "GET", f"{route}?path=a%00b")
    await server.refused(400, "INVALID_FILE_PATH", "GET", f"{route}?path={'x' * 256}")
    await server.refused(400, "INVALID_FILE_PATH", "GET", f"{route}?path={'x/' * 2100}")
    await server.refused(400, "BAD_REQUEST", "GET", f"{route}?path=")


async def test_info_needs_a_path(server: FileServer) -> None:
    await server.refused(400, "BAD_REQUEST", "GET", "/files/info")
    (server.work / "dangling").symlink_to("nowhere")
    await server.refused(404, "FILE_NOT_FOUND", "GET", "/files/info?path=dangling")


async def test_list(server: FileServer) -> None:
    (server.work / "b").mkdir()
    (server.work / "b" / "inner").write_text("")
    for name in ("B", "a", "é", ".hidden"):
        (server.work / name).write_text("")
    status, found = await server.call("GET", "/files")
    assert status == 200
    assert [each["name"] for each in found] == [".hidden", "B", "a", "b", "é"]
    assert [each["path"] for each in found] == [f"{server.work}/{each['name']}" for each in found]
    assert await server.call("GET", "/files/?path=.") == (200, found)
    assert await server.call("GET", "/files", params={"path": str(server.work)}) == (200, found)


async def test_list_follows_links_and_shows_dangling_ones(server: FileServer) -> None:
    (server.work / "dir").mkdir()
    (server.work / "dir" / "file").write_text("12345")
    (server.work / "to-dir").symlink_to("dir")
    (server.work / "to-file").symlink_to("dir/file")
    (server.work / "dangling").symlink_to("nowhere")
    (server.work / "loop").symlink_to("loop")
    _, found = await server.call("GET", "/files?depth=3")
    assert [(Path(each["path"]).relative_to(server.work).as_posix(), each["mode"][0]) for each in found] == [
        ("dangling", "L"),
        ("dir", "d"),
        ("dir/file", "-"),
        ("loop", "L"),
        ("to-dir", "d"),
        ("to-file", "-"),
    ]
    assert found[-1]["size"] == 5
    _, through_link = await server.call("GET", "/files?path=to-dir")
    assert [each["name"] for each in through_link] == ["file"]


async def test_list_depth(server: FileServer) -> None:
    (server.work / "a" / "b" / "c").mkdir(parents=True)
    (server.work / "a-file").write_text("")
    (server.work / "z").write_text("")

    async def listed(depth: int) -> list[str]:
        _, found = await server.call("GET", f"/files?depth={depth}")
        return [os.path.relpath(each["path"], server.work) for each in found]

    assert await listed(1) == ["a", "a-file", "z"]
    assert await listed(2) == ["a", "a/b", "a-file", "z"]
    assert await listed(9) == ["a", "a/b", "a/b/c", "a-file", "z"]
    for wrong in ("0", "-1", "x", "1.5"):
        await server.refused(400, "BAD_REQUEST", "GET", f"/files?depth={wrong}")


async def test_list_of_nothing_and_of_a_file(server: FileServer) -> None:
    assert await server.call("GET", "/files") == (200, [])
    (server.work / "file").write_text("")
    await server.refused(400, "INVALID_FILE_PATH", "GET", "/files?path=file")


async def test_a_long_list_is_complete(server: FileServer) -> None:
    for number in range(4000):
        (server.work / f"{number:05}").write_text("")
    for more in (0, 1):
        if more:
            (server.work / "99999").write_text("")
        _, found = await server.call("GET", "/files")
        assert len(found) == 4000 + more
        assert [each["name"] for each in found] == sorted(each["name"] for each in found)


async def test_names_that_are_not_utf8_can_be_sent_back(server: FileServer) -> None:
    raw = os.fsencode(server.work) + b"/caf\xe9"
    Path(os.fsdecode(raw)).write_text("menu")
    _, found = await server.call("GET", "/files")
    assert found[0]["name"] == "caf\ufffd"
    path = found[0]["path"]
    assert await server.call("GET", "/files/download", params={"path": path}) == (200, b"menu")
    assert (await server.call("GET", "/files/info", params={"path": path}))[0] == 200
    moved = {"source": path, "destination": path + "2"}
    assert (await server.call("POST", "/files/move", params=moved))[0] == 200
    assert os.listdir(os.fsencode(server.work)) == [b"caf\xe92"]
    assert (await server.call("DELETE", "/files", params={"path": path + "2"}))[0] == 204


async def test_names_of_255_bytes(server: FileServer) -> None:
    name = "é" * 127 + "x"
    assert (await server.call("POST", "/files/upload-v2", params={"path": name}, data=b"1"))[0] == 200
    assert (await server.call("POST", "/files/upload-v2", params={"path": name}, data=b"22"))[0] == 200
    assert await server.call("GET", "/files/download", params={"path": name}) == (200, b"22")
    assert server.leftovers() == []
