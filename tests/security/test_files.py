"""Files: exchanged for links while something is done to them, and archives of hostile people."""

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import Daemon

ROUNDS = 20


@contextmanager
def exchanging(place: Path, target: Path) -> Iterator[None]:
    """Make `place`, a directory, a link to `target` and a directory again, as fast as can be."""
    stop = threading.Event()
    aside = place.with_name("aside")

    def exchange() -> None:
        while not stop.is_set():
            with suppress(OSError):
                place.rename(aside)
            with suppress(OSError):
                place.symlink_to(target)
            with suppress(OSError):
                place.unlink()
            with suppress(OSError):
                aside.rename(place)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a directory outside of where requests are about."""
    place = tmp_path / "victim"
    place.mkdir()
    for name in ("a", "b"):
        (place / name).write_text("precious")
    return place


async def test_deleting_a_tree_never_leaves_it(daemon: Daemon, victim: Path) -> None:
    for number in range(ROUNDS):
        tree = daemon.work_dir / f"tree{number}"
        (tree / "sub" / "deep").mkdir(parents=True)
        for name in ("a", "b", "deep/c"):
            (tree / "sub" / name).write_text("x")
        with exchanging(tree / "sub", victim):
            await daemon.http.delete("/files", params={"path": tree.name, "recursive": "true"})
        assert sorted(os.listdir(victim)) == ["a", "b"]


def archive() -> bytes:
    """Return an archive with a file in a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("sub/a", "sub/new", "sub/deep/new"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    return buffer.getvalue()


async def test_unpacking_never_leaves_the_directory(daemon: Daemon, victim: Path) -> None:
    for number in range(ROUNDS):
        place = daemon.work_dir / f"out{number}"
        (place / "sub").mkdir(parents=True)
        with exchanging(place / "sub", victim):
            await daemon.http.post("/files/archive", params={"path": place.name}, data=archive())
        assert sorted(os.listdir(victim)) == ["a", "b"]
        assert {(victim / name).read_text() for name in ("a", "b")} == {"precious"}


@pytest.mark.parametrize(
    ("kind", "name", "link"),
    [
        (tarfile.REGTYPE, "../victim/a", ""),
        (tarfile.REGTYPE, "/victim/a", ""),
        (tarfile.REGTYPE, "x/../../victim/a", ""),
        (tarfile.LNKTYPE, "hard", "../victim/a"),
        (tarfile.LNKTYPE, "hard", "/etc/passwd"),
        (tarfile.CHRTYPE, "device", ""),
        (tarfile.BLKTYPE, "device", ""),
        (tarfile.DIRTYPE, "../victim", ""),
    ],
)
async def test_hostile_members(daemon: Daemon, victim: Path, kind: bytes, name: str, link: str) -> None:
    before = {each: each.stat().st_mode for each in (victim, *victim.iterdir())}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.mode = kind, link, 0o7777
        tar.addfile(member)
    async with daemon.http.post("/files/archive", params={"path": "out"}, data=buffer.getvalue()) as response:
        assert response.status == 400, await response.text()
    assert {each: each.stat().st_mode for each in (victim, *victim.iterdir())} == before
    assert os.listdir(daemon.work_dir / "out") == []
