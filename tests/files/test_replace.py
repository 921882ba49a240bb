"""Replacing text in files: byte for byte, whole or not at all."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Daemon
from toolbox.files import replace


async def change(daemon: Daemon, files: list[str], pattern: str, new: str) -> Any:
    body = {"files": files, "pattern": pattern, "newValue": new}
    async with daemon.http.post("/files/replace", json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_results_in_order(daemon: Daemon) -> None:
    (daemon.work_dir / "a").write_bytes(b"foo bar\r\nfoo\n\xff\0foo")
    (daemon.work_dir / "b").write_text("nothing")
    (daemon.work_dir / "d").mkdir()
    os.mkfifo(daemon.work_dir / "pipe")
    untouched = (daemon.work_dir / "b").stat()
    results = await change(daemon, ["b", "none", "a", "d", "pipe", "", "x\0"], "foo", "ök")
    assert [(each["file"], each["success"]) for each in results] == [
        ("b", True),
        ("none", False),
        ("a", True),
        ("d", False),
        ("pipe", False),
        ("", False),
        ("x\0", False),
    ]
    assert "error" not in results[0]
    assert results[1]["error"].startswith("no such file or directory")
    assert results[3]["error"].startswith("is a directory")
    assert (daemon.work_dir / "a").read_bytes() == "ök bar\r\nök\n".encode() + b"\xff\0" + "ök".encode()
    after = (daemon.work_dir / "b").stat()
    assert (after.st_ino, after.st_mtime_ns) == (untouched.st_ino, untouched.st_mtime_ns)


async def test_what_is_asked_for_must_be_complete(daemon: Daemon) -> None:
    good = {"files": [], "pattern": "x", "newValue": ""}
    for wrong in ({"newValue": None}, {"pattern": ""}, {"files": None}, {"files": [1]}):
        async with daemon.http.post("/files/replace", json=good | wrong) as response:
            assert response.status == 400
    assert await change(daemon, [], "x", "") == []


async def test_links_modes_and_parts_of_a_file(daemon: Daemon) -> None:
    target = daemon.work_dir / "target"
    target.write_text("one one")
    target.chmod(0o4751)
    (daemon.work_dir / "link").symlink_to("target")
    assert (await change(daemon, ["link"], "one", ""))[0]["success"]
    assert target.read_text() == " "
    assert stat.S_IMODE(target.stat().st_mode) == 0o4751
    assert (daemon.work_dir / "link").is_symlink()


async def test_the_same_file_again(daemon: Daemon) -> None:
    (daemon.work_dir / "f").write_text("a")
    results = await change(daemon, ["f", "./f", "f"], "a", "aa")
    assert all(each["success"] for each in results)
    assert (daemon.work_dir / "f").read_text() == "a" * 8


async def test_many_files(daemon: Daemon) -> None:
    for number in range(300):
        (daemon.work_dir / str(number)).write_text(f"{number} foo")
    results = await change(daemon, [str(number) for number in range(300)], "foo", "bar")
    assert all(each["success"] for each in results)
    assert all((daemon.work_dir / str(number)).read_text() == f"{number} bar" for number in range(300))
    assert len(os.listdir(daemon.work_dir)) == 300


@given(
    content=st.lists(st.sampled_from([b"a", b"b", b"ab", b"\n", b"\0", b"aab"]), max_size=60).map(b"".join),
    old=st.binary(min_size=1, max_size=4) | st.sampled_from([b"a", b"aa", b"ab", b"aab", b"aba"]),
    new=st.sampled_from([b"", b"a", b"x", b"abab"]),
    chunk=st.integers(1, 9),
)
def test_as_bytes_replace_does_it(tmp_path_factory: Any, content: bytes, old: bytes, new: bytes, chunk: int) -> None:
    path = tmp_path_factory.getbasetemp() / f"replace-{os.getpid()}"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replace, "_CHUNK", chunk)
            patch.setattr(replace, "_JOINED_BYTES", 4)
            pieces = replace._pieces(descriptor, len(content), old, new)
            result = content if pieces is None else b"".join(b"".join(piece) for piece in pieces)
    finally:
        os.close(descriptor)
    assert result == content.replace(old, new)
    assert (pieces is None) == (old not in content)


def test_large_files_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    line = b"x" * 999_983 + b"NEEDLE"
    path.write_bytes(line * 8)
    assert replace.replace_in_file(str(path), b"NEEDLE", b"N")
    assert path.read_bytes() == (b"x" * 999_983 + b"N") * 8
    assert not replace.replace_in_file(str(path), b"NEEDLE", b"N")


def test_what_somebody_else_writes_meanwhile_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_text("old old")
    original = replace._pieces

    def write_meanwhile(*arguments: Any) -> Any:
        pieces = original(*arguments)
        path.write_text("written by somebody else, old")
        return pieces

    monkeypatch.setattr(replace, "_pieces", write_meanwhile)
    with pytest.raises(OSError, match="somebody else"):
        replace.replace_in_file(str(path), b"old", b"new")
    assert path.read_text() == "written by somebody else, old"
    assert os.listdir(tmp_path) == ["f"]


async def test_readers_see_old_or_new(daemon: Daemon) -> None:
    path = daemon.work_dir / "f"
    contents = {number: f"{number}" * 200_000 for number in (1, 2)}
    path.write_text(contents[1])
    seen = set()
    done = asyncio.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text()[:1] if path.read_text() in contents.values() else "mixed")

    reading = asyncio.get_running_loop().run_in_executor(None, read)
    for old, new in [("1", "2"), ("2", "1")] * 10:
        await change(daemon, ["f"], old, new)
    done.set()
    await reading
    assert seen <= {"1", "2"}
