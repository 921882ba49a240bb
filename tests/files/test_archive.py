"""Directories as one tar stream, both ways, and never outside of the directory."""

import asyncio
import gzip
import io
import os
import random
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from backports import zstd

from tests.conftest import Daemon
from toolbox.errors import BadRequest
from toolbox.files import compression, unpack
from toolbox.files.tarstream import Member, TarReader

FORMATS = ("tar", "tar.gz", "tar.zst")


def plant(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/big").write_bytes(random.randbytes(2_500_000))
    (root / "a/exec").write_text("x" * 512)
    (root / "a/exec").chmod(0o4755)
    (root / "a/empty").touch(0o600)
    (root / os.fsdecode(b"caf\xe9")).write_text("menu")
    (root / ("ü" * 120)).write_text("long name")
    (root / "link").symlink_to("a/exec")
    (root / "outside").symlink_to("/etc/passwd")
    (root / "to-a").symlink_to("a")
    (root / "a/hard").hardlink_to(root / "a/exec")
    os.mkfifo(root / "pipe", 0o640)
    (root / "read-only").mkdir()
    (root / "read-only/f").write_text("1")
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        stamp = 1_600_000_000_000_000_000 + number * 1_000_000_007 if number else 1_500_000_000 * 10**9
        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
    (root / "read-only").chmod(0o555)


def described(root: Path) -> dict[str, Any]:
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        attributes = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_nlink)
        found[str(path.relative_to(root))] = (attributes, content)
    return found


async def download(daemon: Daemon, path: str, form: str = "tar") -> bytes:
    async with daemon.http.get("/files/archive", params={"path": path, "format": form}) as response:
        assert response.status == 200, await response.text()
        assert f'filename="{Path(path).name}.{form}"' in response.headers["Content-Disposition"]
        return await response.read()


async def upload(daemon: Daemon, path: str, body: Any, **query: str) -> tuple[int, Any]:
    data = io.BytesIO(body) if isinstance(body, bytes) else body
    async with daemon.http.post("/files/archive", params={"path": path, **query}, data=data) as response:
        return response.status, await response.json()


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **attributes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize("form", FORMATS)
async def test_there_and_back(daemon: Daemon, form: str) -> None:
    plant(daemon.work_dir / "src")
    body = await download(daemon, "src", form)
    status, answer = await upload(daemon, "new/dst", body)
    assert (status, answer["path"], answer["members"]) == (200, "new/dst", 14)
    expected = described(daemon.work_dir / "src")
    assert described(daemon.work_dir / "new/dst") == expected
    assert (await upload(daemon, "new/dst", body))[0] == 200
    assert described(daemon.work_dir / "new/dst") == expected


async def test_tar_understands_ours_and_we_understand_tar(daemon: Daemon, tmp_path: Path) -> None:
    source = daemon.work_dir / "src"
    plant(source)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xpf", "-", "-C", tmp_path / "out"], input=await download(daemon, "src"), check=True)
    assert described(tmp_path / "out") == described(source)
    for name, form in (("gnu", "gnu"), ("pax", "posix"), ("old", "ustar")):
        if form == "ustar":  # which has no such names
            os.unlink(source / ("ü" * 120))
        made = subprocess.run(["tar", "c", f"--format={form}", "-C", source, "."], capture_output=True, check=True)
        assert (await upload(daemon, name, made.stdout))[0] == 200
        got, expected = described(daemon.work_dir / name), described(source)
        if form == "posix":
            assert got == expected
        assert {path: each[1] for path, each in got.items()} == {path: each[1] for path, each in expected.items()}


async def test_one_file_and_what_is_none(daemon: Daemon) -> None:
    (daemon.work_dir / "f").write_text("content")
    with tarfile.open(fileobj=io.BytesIO(await download(daemon, "f"))) as archive:
        assert archive.getnames() == ["f"]
    for path, status in (("none", 404), ("/dev/null", 400), ("", 400)):
        async with daemon.http.get("/files/archive", params={"path": path}) as response:
            assert response.status == status
    async with daemon.http.get("/files/archive", params={"path": "f", "format": "zip"}) as response:
        assert response.status == 400
    assert (await upload(daemon, "f", packed()))[0] == 400


ESCAPES: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "absolute": [(member("/{tmp}/evil"), b"x")],
    "above": [(member("../evil"), b"x")],
    "above inside": [(member("a/../../evil"), b"x")],
    "above as directory": [(member("../evil", tarfile.DIRTYPE), b"")],
    "through a link": [(member("l", tarfile.SYMTYPE, ".."), b""), (member("l/evil"), b"x")],
    "directory through a link": [(member("l", tarfile.SYMTYPE, ".."), b""), (member("l/evil", tarfile.DIRTYPE), b"")],
    "link through a link": [(member("l", tarfile.SYMTYPE, ".."), b""), (member("l/evil", tarfile.SYMTYPE, "x"), b"")],
    "hard link above": [(member("h", tarfile.LNKTYPE, "../victim"), b"")],
    "hard link absolute": [(member("h", tarfile.LNKTYPE, "{tmp}/victim"), b"")],
    "hard link through a link": [
        (member("l", tarfile.SYMTYPE, ".."), b""),
        (member("h", tarfile.LNKTYPE, "l/victim"), b""),
    ],
    "device": [(member("dev", tarfile.CHRTYPE, devmajor=1, devminor=3), b"")],
    "block device": [(member("dev", tarfile.BLKTYPE, devmajor=7), b"")],
    "no name": [(member("."), b"x")],
}


@pytest.mark.parametrize("case", ESCAPES)
async def test_nothing_gets_out(daemon: Daemon, case: str) -> None:
    victim = daemon.work_dir / "victim"
    victim.write_text("unharmed")
    members = []
    for info, content in ESCAPES[case]:
        copy = member(info.name.replace("/{tmp}", str(daemon.work_dir)), info.type)
        copy.linkname = info.linkname.replace("{tmp}", str(daemon.work_dir))
        copy.devmajor, copy.devminor = info.devmajor, info.devminor
        members.append((copy, content))
    status, answer = await upload(daemon, "dst", packed((member("first"), b"1"), *members))
    assert status == 400, answer
    assert sorted(os.listdir(daemon.work_dir)) == ["dst", "victim"]
    assert (victim.read_text(), victim.stat().st_nlink) == ("unharmed", 1)
    assert (daemon.work_dir / "dst/first").read_text() == "1"
    assert set(os.listdir(daemon.work_dir / "dst")) <= {"first", "l"}


async def test_a_link_in_the_way_is_replaced_not_followed(daemon: Daemon) -> None:
    (daemon.work_dir / "victim").write_text("unharmed")
    body = packed((member("f", tarfile.SYMTYPE, "../victim"), b""), (member("f"), b"new"))
    assert (await upload(daemon, "dst", body))[0] == 200
    assert (daemon.work_dir / "victim").read_text() == "unharmed"
    assert (daemon.work_dir / "dst/f").read_text() == "new"


@pytest.mark.parametrize("form", FORMATS)
async def test_an_archive_cut_short_is_refused(daemon: Daemon, form: str) -> None:
    (daemon.work_dir / "src").mkdir()
    for number in range(3):
        (daemon.work_dir / f"src/{number}").write_bytes(random.randbytes(700))
    body = (await download(daemon, "src", form)).rstrip(b"\0") if form == "tar" else await download(daemon, "src", form)
    for stop in range(0, len(body), 97):
        status, _ = await upload(daemon, f"dst{stop}", body[:stop])
        assert status == 400
        left = [path for path in (daemon.work_dir / f"dst{stop}").rglob("*") if path.name.endswith(".toolbox-tmp")]
        assert left == []


@pytest.mark.parametrize("body", [b"not a tar " * 200, b"\x1f\x8bxx" * 200, b"\x28\xb5\x2f\xfd\xff\xff" * 200])
async def test_what_is_no_archive(daemon: Daemon, body: bytes) -> None:
    status, answer = await upload(daemon, "dst", body)
    assert (status, answer["code"]) == (400, "BAD_REQUEST")


async def test_a_file_in_the_way(daemon: Daemon) -> None:
    (daemon.work_dir / "dst/d").mkdir(parents=True)
    (daemon.work_dir / "dst/f").write_text("1")
    assert (await upload(daemon, "dst", packed((member("f/x"), b"2"))))[0] == 400
    assert (await upload(daemon, "dst", packed((member("d"), b"2"))))[0] == 400
    assert (daemon.work_dir / "dst/f").read_text() == "1"
    assert sorted(os.listdir(daemon.work_dir / "dst")) == ["d", "f"]


async def test_owners_are_kept_or_not(daemon: Daemon) -> None:
    if os.geteuid() != 0:
        pytest.skip("not possible here: needs root")
    body = packed((member("f", uid=1234, gid=99, mode=0o4755), b"1"))
    assert (await upload(daemon, "kept", body))[0] == 200
    status = (daemon.work_dir / "kept/f").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 99, 0o4755)
    assert (await upload(daemon, "own", body, sameOwner="false"))[0] == 200
    status = (daemon.work_dir / "own/f").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o755)


async def test_limits(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 2)
    body = packed(*((member(str(number)), b"x") for number in range(3)))
    assert (await upload(daemon, "dst", body))[0] == 413
    monkeypatch.setattr(unpack, "MAX_BYTES", 1000)
    assert (await upload(daemon, "dst2", packed((member("f"), bytes(1001)))))[0] == 413


@pytest.mark.parametrize("squeeze", [gzip.compress, zstd.compress])
def test_bombs_come_out_in_pieces(squeeze: Callable[[bytes], bytes]) -> None:
    bomb = squeeze(bytes(50_000_000)) + squeeze(b"more")
    sizes = [len(piece) for piece in compression.Decoder().feed(bomb, last=True)]
    assert max(sizes) <= compression.PIECE
    assert sum(sizes) == 50_000_004


async def test_a_client_that_leaves_leaves_no_fragment(daemon: Daemon) -> None:
    body = packed((member("whole"), b"1"), (member("half"), bytes(10_000_000)))

    async def half() -> Any:
        yield body[: len(body) // 2]
        await asyncio.sleep(1000)

    sending = asyncio.ensure_future(upload(daemon, "dst", half()))
    async with asyncio.timeout(20):
        while not (daemon.work_dir / "dst/whole").exists():
            await asyncio.sleep(0.01)
        sending.cancel()
        while os.listdir(daemon.work_dir / "dst") != ["whole"]:
            await asyncio.sleep(0.01)


async def test_a_file_that_shrinks_breaks_the_answer_off(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    path = daemon.work_dir / "src/large"
    path.parent.mkdir()
    path.write_bytes(bytes(40_000_000))
    (daemon.work_dir / "src/z").write_text("")
    async with daemon.http.get("/files/archive", params={"path": "src"}) as response:
        await response.content.readexactly(1000)
        os.truncate(path, 100)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


class _Names:
    def __init__(self) -> None:
        self.members: list[tuple[Member, bytes]] = []

    def begin(self, member: Member) -> None:
        self.members.append((member, b""))

    def write(self, data: bytes) -> None:
        found, content = self.members[-1]
        self.members[-1] = found, content + data

    def end(self) -> None:
        pass


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_archives_in_pieces_of_any_size(form: int) -> None:
    long = "d/" * 100 + "n" * 200
    body = packed(
        (member(long, uid=3_000_000, mtime=1), b"x" * 513),
        (member("é" * 90, tarfile.SYMTYPE, "l" * 150), b""),
        (member("empty"), b""),
        (member("last"), b"y" * 512),
        form=form,
    )
    results = []
    for size in (1, 3, 511, 512, 513, 100_000):
        names = _Names()
        reader = TarReader(names)
        for at in range(0, len(body), size):
            reader.feed(body[at : at + size])
        reader.close()
        results.append(names.members)
    assert all(each == results[0] for each in results)
    first, link, *_ = results[0]
    assert (first[0].name, first[0].uid, first[0].modified_ns, first[1]) == (long, 3_000_000, 10**9, b"x" * 513)
    assert (link[0].name, link[0].link) == ("é" * 90, "l" * 150)


@pytest.mark.parametrize("records", [b"9 path=x", b"xx", b"99 path=x\n", b"0 =\n", b"7 size\n", b"11 size=-1\n"])
def test_damaged_extended_headers(records: bytes) -> None:
    head = member("x", tarfile.XHDTYPE)
    head.size = len(records)
    body = head.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0") + packed((member("f"), b"1"))
    with pytest.raises(BadRequest):
        TarReader(_Names()).feed(body)
