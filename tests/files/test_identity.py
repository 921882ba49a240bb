"""Files are touched as the workload user, who may not do what root may."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.files.conftest import FileServer, ServeFiles
from toolbox.files.identity import Identity
from toolbox.files.threads import FileThreads

NOBODY = Identity(65534, 65534, (65534, 4242))

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="not possible here: acting as another user needs root")


@pytest.fixture
async def server(serve_files: ServeFiles, work: Path) -> AsyncIterator[FileServer]:
    """Run a server whose files are touched by an unprivileged user, who owns the work directory."""
    for above in [work, *work.parents]:
        if above.stat().st_uid == 0 and above != Path("/") and "pytest" in str(above):
            above.chmod(0o755)
    os.chown(work, 65534, 65534)
    async with serve_files(NOBODY) as running:
        yield running


@pytest.fixture
def locked(work: Path) -> Path:
    """Return a directory of root that the user may not look into, with files of root beside it."""
    (work / "locked").mkdir(mode=0o700)
    (work / "locked" / "file").write_text("secret")
    (work / "readable").mkdir(mode=0o755)
    (work / "readable" / "file").write_text("old")
    (work / "readable" / "file").chmod(0o644)
    (work / "secret").write_text("secret")
    (work / "secret").chmod(0o600)
    return work / "locked"


async def test_new_files_belong_to_the_user(server: FileServer) -> None:
    assert (await server.call("POST", "/files/upload-v2?path=d/f", data=b"1"))[0] == 200
    assert (await server.call("POST", "/files/folder?path=d/e"))[0] == 201
    for name in ("d", "d/f", "d/e"):
        status = (server.work / name).stat()
        assert (status.st_uid, status.st_gid) == (65534, 65534)
    assert os.getuid() == 0


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/files?path=locked"),
        ("GET", "/files/info?path=locked/file"),
        ("GET", "/files/download?path=locked/file"),
        ("GET", "/files/download?path=secret"),
        ("DELETE", "/files?path=locked/file"),
        ("DELETE", "/files?path=readable/file"),
        ("DELETE", "/files?path=readable&recursive=true"),
        ("DELETE", "/files?path=locked&recursive=true"),
        ("POST", "/files/move?source=readable/file&destination=mine"),
        ("POST", "/files/move?source=secret&destination=readable/mine"),
        ("POST", "/files/folder?path=readable/new"),
        ("POST", "/files/folder?path=locked/new/deep"),
        ("POST", "/files/permissions?path=readable/file&mode=777"),
        ("POST", "/files/permissions?path=readable/file&owner=65534"),
        ("POST", "/files/upload-v2?path=readable/file"),
        ("POST", "/files/upload-v2?path=readable/new"),
        ("POST", "/files/upload-v2?path=locked/new"),
        ("POST", "/files/upload-v2?path=secret"),
    ],
)
async def test_what_the_user_may_not(server: FileServer, locked: Path, method: str, url: str) -> None:
    options: Any = {"data": b"new"} if "upload" in url else {}
    before = sorted((str(each), each.stat().st_mtime_ns) for each in server.work.rglob("*"))
    await server.refused(403, "FILE_ACCESS_DENIED", method, url, **options)
    assert sorted((str(each), each.stat().st_mtime_ns) for each in server.work.rglob("*")) == before


async def test_denied_files_of_bulk_requests(server: FileServer, locked: Path) -> None:
    async with server.http.post("/files/bulk-download", json={"paths": ["secret", "readable/file"]}) as response:
        body = await response.read()
    assert (b'"code":"FILE_ACCESS_DENIED"' in body, b"secret" in body, b"old" in body) == (True, True, True)
    assert b"\r\nsecret\r\n" not in body
    form = (
        b'--B\r\nContent-Disposition: form-data; name="files[0].path"\r\n\r\nreadable/new\r\n'
        b'--B\r\nContent-Disposition: form-data; name="files[0].file"; filename="x"\r\n\r\n1\r\n--B--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    answer = await server.refused(400, "FILE_ACCESS_DENIED", "POST", "/files/bulk-upload", data=form, headers=headers)
    assert answer["files"] == []


async def test_listing_passes_over_what_may_not_be_read(server: FileServer, locked: Path) -> None:
    _, found = await server.call("GET", "/files?depth=2")
    assert [each["name"] for each in found] == ["locked", "readable", "file", "secret"]


async def test_a_read_only_file_of_the_user_is_not_replaced(server: FileServer) -> None:
    file = server.work / "f"
    file.write_text("old")
    os.chown(file, 65534, 65534)
    file.chmod(0o444)
    await server.refused(403, "FILE_ACCESS_DENIED", "POST", "/files/upload-v2?path=f", data=b"new")
    assert file.read_text() == "old"


async def test_a_writable_file_of_somebody_else_keeps_its_owner(server: FileServer) -> None:
    file = server.work / "f"
    file.write_text("old and longer")
    os.chown(file, 12, 4242)
    file.chmod(0o660)
    assert (await server.call("POST", "/files/upload-v2?path=f", data=b"new"))[0] == 200
    status = file.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12, 4242, 0o660)
    assert file.read_text() == "new"
    assert os.listdir(server.work) == ["f"]


async def test_a_writable_file_in_a_directory_that_is_not(server: FileServer) -> None:
    (server.work / "d").mkdir()
    file = server.work / "d" / "f"
    file.write_text("old and longer")
    file.chmod(0o666)
    assert (await server.call("POST", "/files/upload-v2?path=d/f", data=b"new"))[0] == 200
    assert file.read_text() == "new"
    assert os.listdir(server.work / "d") == ["f"]


async def test_threads_do_not_change_the_process(server: FileServer) -> None:
    groups = os.getgroups()
    await server.call("GET", "/files")
    assert (os.getuid(), os.geteuid(), os.getgroups()) == (0, 0, groups)


def test_identity_of_a_user() -> None:
    assert Identity.of_user("root").uid == 0
    assert Identity.of_user("nobody").gid in Identity.of_user("nobody").groups
    with pytest.raises(KeyError):
        Identity.of_user("no-such-user")


async def test_an_identity_that_cannot_be_assumed_is_an_error_at_start() -> None:
    impossible = Identity(2**32 - 1, 0, ())
    with pytest.raises(Exception, match=r"refused|initializer"):
        async with FileThreads(impossible):
            pass
