"""Search by name, find by content: complete, in order, bounded, and stopped when nobody listens."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster

from tests.conftest import Daemon, run_daemon
from toolbox.children import tree
from toolbox.config import ServeConfig
from toolbox.files import find
from toolbox.files.lines import MAX_LINE, RipgrepLines


async def get(daemon: Daemon, route: str, **query: object) -> tuple[int, Any, Any]:
    async with daemon.http.get(route, params={name: str(value) for name, value in query.items()}) as response:
        return response.status, await response.json(), response.headers.get("X-Truncated")


async def names(daemon: Daemon, path: str, pattern: str) -> list[str]:
    status, answer, _ = await get(daemon, "/files/search", path=path, pattern=pattern)
    assert status == 200
    found: list[str] = answer["files"]
    return found


def plant(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("")


class TestSearch:
    async def test_order_and_special_entries(self, daemon: Daemon) -> None:
        plant(daemon.work_dir, "t/b/x", "t/b-file", "t/a", "t/.hidden", "t/b/c/d")
        (daemon.work_dir / "t/dangling").symlink_to("nowhere")
        (daemon.work_dir / "t/to-b").symlink_to("b")
        os.mkfifo(daemon.work_dir / "t/pipe")
        expected = ["t", "t/.hidden", "t/a", "t/b", "t/b/c", "t/b/c/d", "t/b/x", "t/b-file", "t/dangling", "t/pipe"]
        assert await names(daemon, "t", "*") == [*expected, "t/to-b"]
        assert await names(daemon, "./t/../t/", "?") == ["t", "t/a", "t/b", "t/b/c", "t/b/c/d", "t/b/x"]
        assert await names(daemon, ".", "b*") == ["t/b", "t/b-file"]
        absolute = str(daemon.work_dir / "t")
        assert await names(daemon, absolute, "[c-d]") == [f"{absolute}/b/c", f"{absolute}/b/c/d"]
        assert await names(daemon, "t/a", "a") == ["t/a"]
        assert await names(daemon, "t/to-b", "*") == ["t/to-b"]

    async def test_nothing(self, daemon: Daemon) -> None:
        assert await names(daemon, "none", "*") == []
        assert await names(daemon, ".", "[") == []
        assert await names(daemon, ".", "x") == []
        for query in ({"path": "."}, {"pattern": "x"}, {"path": ".", "pattern": ""}, {"path": "a\0", "pattern": "x"}):
            assert (await get(daemon, "/files/search", **query))[0] == 400

    async def test_names_that_are_not_utf8_can_be_sent_back(self, daemon: Daemon) -> None:
        (daemon.work_dir / os.fsdecode(b"caf\xe9")).mkdir()
        (daemon.work_dir / os.fsdecode(b"caf\xe9/\xff")).write_text("needle")
        found = await names(daemon, ".", "caf?")
        assert found == ["caf\ufffdxe9"]
        assert await names(daemon, found[0], "*") == ["caf\ufffdxe9", "caf\ufffdxe9/\ufffdxff"]
        assert await names(daemon, ".", found[0]) == found
        _, lines, _ = await get(daemon, "/files/find", path=found[0], pattern="needle")
        assert [each["file"] for each in lines] == ["caf\ufffdxe9/\ufffdxff"]

    async def test_pages(self, daemon: Daemon) -> None:
        plant(daemon.work_dir, *(f"d{number // 1000}/{number:05}" for number in range(6000)))
        everything = await names(daemon, ".", "0*")
        assert len(everything) == 6000
        paged: list[str] = []
        more = "true"
        while more == "true":
            _, answer, more = await get(daemon, "/files/search", path=".", pattern="0*", limit=2500, offset=len(paged))
            paged += answer["files"]
        assert (paged, more) == (everything, "false")
        _, answer, truncated = await get(daemon, "/files/search", path=".", pattern="0*", offset=5999)
        assert (answer["files"], truncated) == (everything[5999:], None)
        assert (await get(daemon, "/files/search", path=".", pattern="0*", limit=0))[0] == 400

    async def test_a_deep_tree(self, daemon: Daemon) -> None:
        deep = Path(*["d"] * 1200)
        here = os.open(daemon.work_dir, os.O_RDONLY)
        for word in deep.parts:
            os.mkdir(word, dir_fd=here)
            below = os.open(word, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        assert len(await names(daemon, ".", "d")) == 1200
        # pytest's own removal of old directories cannot go this deep.
        assert (await daemon.execute("rm -rf d"))["exitCode"] == 0


class TestFind:
    @pytest.fixture(params=["ripgrep", "python"])
    async def either(
        self, request: pytest.FixtureRequest, serve_config: Callable[..., ServeConfig], monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Daemon]:
        """Run a daemon with ripgrep, and one without."""
        if request.param == "python":
            monkeypatch.setattr(find, "_find_ripgrep", lambda: "")
        async with run_daemon(serve_config()) as running:
            yield running

    async def test_lines(self, either: Daemon) -> None:
        root = either.work_dir / "t"
        plant(root, "b/x", "b-file", ".git/ignored", "a")
        (root / "a").write_bytes(b"needle\r\nno\n: a needle: \xff\n\nneedle needle")
        (root / "b/x").write_bytes(b"1\n2\n" * 5000 + b"the needle\n")
        (root / "b-file").write_bytes(b"Needle\n" + b"x" * 600 + b"\0needle\n")
        (root / ".git/ignored").write_text("needle")
        (root / ".gitignore").write_text("*\n")
        (root / "new\nline").write_text("needle")
        (root / "binary").write_bytes(b"needle\n" + b"\0")
        (root / "zlink").symlink_to("a")
        os.mkfifo(root / "pipe")
        status, found, _ = await get(either, "/files/find", path="t", pattern="needle")
        assert status == 200
        assert [(each["file"], each["line"]) for each in found] == [
            ("t/.git/ignored", 1),
            ("t/a", 1),
            ("t/a", 3),
            ("t/a", 5),
            ("t/b/x", 10001),
            ("t/b-file", 2),
            ("t/new\nline", 1),
        ]
        contents = [each["content"] for each in found]
        assert contents[1:4] == ["needle", ": a needle: \ufffd", "needle needle"]
        assert contents[5] == "x" * 600 + "\0needle"
        assert set(found[0]) == {"file", "line", "content"}

    async def test_one_file_and_none(self, either: Daemon) -> None:
        (either.work_dir / "f").write_text("a.c\nabc\n")
        (either.work_dir / "link").symlink_to("f")
        one = [{"file": "f", "line": 1, "content": "a.c"}]
        assert (await get(either, "/files/find", path="./f", pattern="a.c"))[1] == one
        absolute = str(either.work_dir / "f")
        assert (await get(either, "/files/find", path=absolute, pattern="a.c"))[1][0]["file"] == absolute
        for path, pattern in (("link", "a"), ("none", "a"), ("f", "a.c\nabc"), ("f", "-e"), (".", "$("), ("f", "\0")):
            assert (await get(either, "/files/find", path=path, pattern=pattern))[:2] == (200, [])
        assert (await get(either, "/files/find", path="."))[0] == 400

    async def test_long_lines_are_cut_and_say_so(self, either: Daemon) -> None:
        exact = "needle".rjust(MAX_LINE, "x")
        over = "needle".rjust(3 * MAX_LINE, "y")
        (either.work_dir / "f").write_text(f"{exact}\n{over}\r\n{'z' * 10**6}\nneedle\n{over}")
        _, found, _ = await get(either, "/files/find", path=".", pattern="needle")
        shown = [(each["line"], len(each["content"]), each.get("truncated")) for each in found]
        assert shown == [(1, MAX_LINE, None), (2, MAX_LINE, True), (4, 6, None), (5, MAX_LINE, True)]
        assert found[1]["content"] == "y" * MAX_LINE

    async def test_many_lines_stay_in_order(self, either: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(find, "_SORTED_BYTES", 10_000)
        for number in range(60):
            (either.work_dir / f"d{number % 7}").mkdir(exist_ok=True)
            (either.work_dir / f"d{number % 7}/{number:02}").write_text("needle and more\n" * 50)
        _, found, _ = await get(either, "/files/find", path=".", pattern="needle")
        places = [(each["file"], each["line"]) for each in found]
        assert len(places) == 3000
        assert places == sorted(places)
        _, page, truncated = await get(either, "/files/find", path=".", pattern="needle", limit=10, offset=2985)
        assert (page, truncated) == (found[2985:2995], "true")

    async def test_what_may_not_be_read_is_passed_over(self, either: Daemon) -> None:
        (either.work_dir / "yes").write_text("needle")
        (either.work_dir / "gone").symlink_to("loop")
        (either.work_dir / "loop").symlink_to("gone")
        _, found, _ = await get(either, "/files/find", path=".", pattern="needle")
        assert [each["file"] for each in found] == ["yes"]


async def test_a_broken_ripgrep_is_done_without(
    serve_config: Callable[..., ServeConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, program in enumerate(("#!/bin/sh\necho unknown flag >&2; exit 2\n", "not a program", None)):
        path = tmp_path / f"rg{number}"
        if program is not None:
            path.write_text(program)
            path.chmod(0o755 if program.startswith("#!") else 0o644)
        monkeypatch.setattr(find, "_find_ripgrep", lambda path=path: str(path))
        async with run_daemon(serve_config() if number == 0 else _again(serve_config, tmp_path)) as daemon:
            (daemon.work_dir / "f").write_text("needle")
            assert (await get(daemon, "/files/find", path=".", pattern="needle"))[1][0]["file"] == "f"


def _again(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> ServeConfig:
    return serve_config(work_dir=str(tmp_path / "work"))


async def test_a_killed_ripgrep_is_an_error(
    serve_config: Callable[..., ServeConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "rg"
    path.write_text("#!/bin/sh\nkill -9 $$\n")
    path.chmod(0o755)
    monkeypatch.setattr(find, "_find_ripgrep", lambda: str(path))
    async with run_daemon(serve_config()) as daemon:
        status, answer, _ = await get(daemon, "/files/find", path=".", pattern="needle")
        assert (status, answer["message"]) == (500, "the search was ended: SIGKILL")


async def test_a_client_that_leaves_ends_the_search(
    serve_config: Callable[..., ServeConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "rg"
    path.write_text("#!/bin/sh\nexec sleep 1000\n")
    path.chmod(0o755)
    monkeypatch.setattr(find, "_find_ripgrep", lambda: str(path))
    async with run_daemon(serve_config()) as daemon:
        await daemon.execute("true")  # with the first child comes the guard, which stays
        before = set(tree.direct_children())
        asking = asyncio.ensure_future(get(daemon, "/files/find", path=".", pattern="needle"))
        while not set(tree.direct_children()) - before:
            await asyncio.sleep(0.01)
        asking.cancel()
        async with asyncio.timeout(20):
            while set(tree.direct_children()) - before:
                await asyncio.sleep(0.01)


def test_output_cut_anywhere_is_understood() -> None:
    long = b"y" * (MAX_LINE + 5)
    output = b"./a\x001:one\r\n./b:c\nd\x0012:x:\x00y\n./b:c\nd\x0013:" + long + b"\n./z\x0099:last\n"
    whole = RipgrepLines().feed(output)
    assert [(line.path, line.number, line.cut) for line in whole] == [
        ("a", 1, False),
        ("b:c\nd", 12, False),
        ("b:c\nd", 13, True),
        ("z", 99, False),
    ]
    for size in (1, 2, 3, 7, 1000, 65_000):
        parser = RipgrepLines()
        pieces = [parser.feed(output[at : at + size]) for at in range(0, len(output), size)]
        assert [line for piece in pieces for line in piece] == whole


async def test_answers_are_json_whatever_the_length(daemon: Daemon, nothing_blocks: BlockBuster) -> None:
    plant(daemon.work_dir, *(f"{'long-name-' * 20}{number:05}" for number in range(8000)))
    async with daemon.http.get("/files/search", params={"path": ".", "pattern": "long*"}) as response:
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        assert len(json.loads(await response.read())["files"]) == 8000
