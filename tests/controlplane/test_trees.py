"""A tree that is packed and unpacked is the same tree."""

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.drivers import trees

NEVER = threading.Event()


def look(tree: Path) -> dict[str, Any]:
    """Return what can be told of every file in a tree."""
    found = {}
    for path in (tree, *tree.rglob("*")):
        status = path.lstat()
        if stat.S_ISSOCK(status.st_mode):
            continue
        content: Any = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = path.read_bytes()
        xattrs = {} if path.is_symlink() else {name: os.getxattr(path, name) for name in os.listxattr(path)}
        when = None if path.is_symlink() else round(status.st_mtime, 3)
        found[str(path.relative_to(tree))] = (
            *(status.st_mode, status.st_uid, status.st_gid, status.st_nlink if path.is_file() else 0),
            *(when, content, xattrs),
        )
    return found


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """Return a tree with one of everything."""
    tree = tmp_path / "full"
    tree.mkdir(mode=0o750)
    (tree / "empty").mkdir(mode=0o555)
    (tree / "file").write_bytes(b"x" * 70_000)
    (tree / "file").chmod(0o4755)
    (tree / "hard").hardlink_to(tree / "file")
    (tree / "broken").symlink_to("/nowhere/at/all")
    os.link(tree / "broken", tree / "broken twice", follow_symlinks=False)
    (tree / "to a directory").symlink_to("empty")
    os.mkfifo(tree / "fifo")
    (tree / ("long" * 50)).mkdir()
    (tree / ("long" * 50) / ("name ü" * 20)).write_text("deep")
    Path(os.fsdecode(os.fsencode(tree) + b"/not \xff utf-8")).write_text("bytes")
    os.utime(tree / "empty", (1, 1_000_000_000.25))
    with (tree / "holes").open("wb") as file:
        for offset in (0, 3 << 20, 9 << 20):
            file.seek(offset)
            file.write(b"data" * 2000)
        file.truncate(64 << 20)
    with (tree / "only a hole").open("wb") as file:
        file.truncate(1 << 30)
    with contextlib.suppress(OSError):  # not every file system has them
        os.setxattr(tree / "file", "user.note", b"\xff\x00binary")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "socket"))
        yield tree


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_everything(full: Path, tmp_path: Path, way: str) -> None:
    (full / "only a hole").unlink()
    before, copy = look(full), tmp_path / "copy"
    copy.mkdir()
    if way == "file":
        size = trees.pack_file(full, tmp_path / "packed", NEVER)
        assert size == (tmp_path / "packed").stat().st_size < 1 << 20
        trees.unpack_file(tmp_path / "packed", copy, NEVER)
    else:
        trees.copy(full, copy, NEVER)
    assert look(copy) == before
    assert (copy / "hard").samefile(copy / "file")
    assert (copy / "holes").stat().st_blocks * 512 < 1 << 20


def test_a_hole_takes_no_room(full: Path, tmp_path: Path) -> None:
    assert trees.pack_file(full, tmp_path / "packed", NEVER) < 1 << 20
    (tmp_path / "copy").mkdir()
    trees.unpack_file(tmp_path / "packed", tmp_path / "copy", NEVER)
    assert (tmp_path / "copy/only a hole").stat().st_size == 1 << 30


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


@given(st.dictionaries(names, st.tuples(st.binary(max_size=2000), st.integers(0, 0o7777)), max_size=8))
def test_any_names_and_modes(tmp_path_factory: pytest.TempPathFactory, files: dict[str, tuple[bytes, int]]) -> None:
    tree, copy = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("copy")
    for name, (content, mode) in files.items():
        (tree / name).write_bytes(content)
        (tree / name).chmod(mode | 0o400)
    trees.copy(tree, copy, NEVER)
    assert look(copy) == look(tree)


def test_a_file_that_shrinks_is_filled_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    with (tmp_path / "file").open("r+b") as file:
        pieces = trees._Pieces(file.fileno(), b"head", [(0, 100)])
        file.truncate(10)
        assert pieces.read(60) == b"head" + b"x" * 10 + bytes(46)
        assert pieces.read(44) == bytes(44)


def test_a_full_disk_leaves_nothing(full: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as disk, pytest.raises(OSError, match="No space left"):
        trees.pack(full, disk, NEVER)


def test_stopped_work_leaves_nothing(full: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(trees.Stopped):
        trees.pack_file(full, tmp_path / "packed", stop)
    (tmp_path / "copy").mkdir()
    with pytest.raises(trees.Stopped):
        trees.copy(full, tmp_path / "copy", stop)
    assert {each.name for each in tmp_path.iterdir()} == {"full", "copy"}


def test_half_an_archive_is_an_error(full: Path, tmp_path: Path) -> None:
    trees.pack_file(full, tmp_path / "packed", NEVER)
    os.truncate(tmp_path / "packed", 70_000)
    (tmp_path / "copy").mkdir()
    with pytest.raises(OSError, match="archive"):
        trees.unpack_file(tmp_path / "packed", tmp_path / "copy", NEVER)
