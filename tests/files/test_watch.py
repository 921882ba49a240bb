"""Watching directories with the real inotify, and waiting for files."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Daemon
from toolbox.errors import Unavailable
from toolbox.files import changes
from toolbox.files.changes import Changes
from toolbox.files.globs import path_matcher
from toolbox.files.inotify import Inotify
from toolbox.files.threads import FileThreads
from toolbox.files.watch import Filter, Watch


class Watcher:
    """A client of `/files/watch`."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, root: Path) -> None:
        self._ws = ws
        self._root = root
        self.seen: list[tuple[Any, ...]] = []

    async def until(self, kind: str, path: str) -> list[tuple[Any, ...]]:
        """Return all events up to the one of that kind and path."""
        async with asyncio.timeout(20):
            while True:
                event = await self._ws.receive_json()
                old = event.get("oldPath")
                shown = (event["type"], self._relative(event["path"]), *([self._relative(old)] if old else []))
                self.seen.append(shown)
                if shown[:2] == (kind, path):
                    seen, self.seen = self.seen, []
                    return seen

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._root)


@asynccontextmanager
async def watching(daemon: Daemon, **query: str) -> AsyncIterator[Watcher]:
    async with daemon.http.ws_connect("/files/watch", params=query) as ws:
        yield Watcher(ws, daemon.work_dir)


async def test_what_happens_is_told(daemon: Daemon) -> None:
    work = daemon.work_dir
    (work / "sub").mkdir()
    async with watching(daemon) as watcher:
        (work / "sub/f").write_text("1")
        assert await watcher.until("created", "sub/f") == [("created", "sub/f")]
        (work / "sub/f").write_text("2")
        assert await watcher.until("modified", "sub/f") == [("modified", "sub/f")]
        (work / "sub/f").chmod(0o600)
        assert await watcher.until("modified", "sub/f") == [("modified", "sub/f")]
        (work / "sub/f").rename(work / "g")
        assert await watcher.until("moved", "g") == [("moved", "g", "sub/f")]
        (work / "g").unlink()
        assert await watcher.until("deleted", "g") == [("deleted", "g")]
        (work / "link").symlink_to("nowhere")
        assert await watcher.until("created", "link") == [("created", "link")]


async def test_new_directories_are_watched_and_looked_into(daemon: Daemon) -> None:
    work = daemon.work_dir
    async with watching(daemon) as watcher:
        for number in range(50):
            (work / f"d{number}/e/f").mkdir(parents=True)
            (work / f"d{number}/e/f/g").write_text("")
        found: set[tuple[Any, ...]] = set()
        expected = {("created", f"d{n}{rest}") for n in range(50) for rest in ("", "/e", "/e/f", "/e/f/g")}
        while not expected <= found:
            (work / "mark").touch()
            found |= set(await watcher.until("created", "mark"))
            (work / "mark").unlink()
            found |= set(await watcher.until("deleted", "mark"))
        (work / "d49/e/f/later").write_text("")
        await watcher.until("created", "d49/e/f/later")


async def test_moved_directories_stay_watched_under_their_new_names(daemon: Daemon, tmp_path: Path) -> None:
    work = daemon.work_dir
    (work / "a/b").mkdir(parents=True)
    async with watching(daemon) as watcher:
        (work / "a").rename(work / "c")
        (work / "c/b/f").write_text("")
        assert await watcher.until("created", "c/b/f") == [("moved", "c", "a"), ("created", "c/b/f")]
        (work / "c").rename(tmp_path / "outside")
        assert await watcher.until("deleted", "c") == [("deleted", "c")]
        (tmp_path / "outside/b/unseen").write_text("")
        (tmp_path / "outside").rename(work / "back")
        seen = await watcher.until("created", "back/b/unseen")
        assert set(seen) == {("created", "back"), ("created", "back/b"), ("created", "back/b/f"), seen[-1]}


async def test_a_directory_that_moves_while_it_is_new(daemon: Daemon) -> None:
    work = daemon.work_dir
    async with watching(daemon) as watcher:
        for number in range(30):
            (work / f"new{number}/x").mkdir(parents=True)
            (work / f"new{number}").rename(work / f"moved{number}")
        (work / "mark").touch()
        await watcher.until("created", "mark")
        for number in range(30):
            (work / f"moved{number}/x/f").write_text("")
            await watcher.until("created", f"moved{number}/x/f")


async def test_filters(daemon: Daemon) -> None:
    work = daemon.work_dir
    query = {"include": "*.py, docs/**", "exclude": "node_modules,.git,*_pb.py"}
    async with watching(daemon, **query) as watcher:
        (work / "node_modules/x").mkdir(parents=True)
        (work / "node_modules/x/a.py").write_text("")
        (work / "docs/d").mkdir(parents=True)
        (work / "a.txt").write_text("")
        (work / "a_pb.py").write_text("")
        (work / "docs/d/t").write_text("")
        (work / "a.txt").rename(work / "a.py")
        (work / "z.py").write_text("")
        seen = [*await watcher.until("created", "z.py"), *await _settled(watcher, work)]
        assert {("created", "docs/d"), ("created", "docs/d/t"), ("created", "a.py"), ("created", "z.py")} <= set(seen)
        assert {event[1] for event in seen} <= {"docs/d", "docs/d/t", "a.py", "z.py", "last.py"}
    async with daemon.http.get("/files/watch", params={"exclude": "["}) as response:
        assert response.status == 400


async def _settled(watcher: Watcher, work: Path) -> list[tuple[Any, ...]]:
    (work / "last.py").touch()
    return await watcher.until("created", "last.py")


async def test_not_recursive_and_one_file(daemon: Daemon) -> None:
    work = daemon.work_dir
    (work / "d").mkdir()
    (work / "one").write_text("")
    async with watching(daemon, recursive="false") as watcher, watching(daemon, path="one") as of_one:
        (work / "d/x").write_text("")
        (work / "two").write_text("")
        assert await watcher.until("created", "two") == [("created", "two")]
        (work / "new").write_text("1")
        (work / "new").rename(work / "one")
        assert await of_one.until("created", "one") == [("created", "one")]


async def test_names_that_are_not_utf8(daemon: Daemon) -> None:
    async with watching(daemon) as watcher:
        (daemon.work_dir / os.fsdecode(b"caf\xe9")).mkdir()
        await watcher.until("created", "caf\ufffdxe9")
        (daemon.work_dir / os.fsdecode(b"caf\xe9/\xff")).write_text("")
        await watcher.until("created", "caf\ufffdxe9/\ufffdxff")


async def test_uploads_show_under_their_own_name_only(daemon: Daemon) -> None:
    async with watching(daemon) as watcher:
        for content in (b"1", b"2"):
            async with daemon.http.post("/files/upload-v2", params={"path": "up"}, data=content) as response:
                assert response.status == 200
            assert {event[1] for event in await watcher.until("created", "up")} == {"up"}


async def test_the_end_of_the_directory_is_the_end(daemon: Daemon) -> None:
    (daemon.work_dir / "d").mkdir()
    async with daemon.http.ws_connect("/files/watch", params={"path": "d"}) as ws:
        (daemon.work_dir / "d").rmdir()
        event = await ws.receive_json(timeout=20)
        assert (event["type"], event["path"]) == ("deleted", str(daemon.work_dir / "d"))
        assert (await ws.receive(timeout=20)).type == aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 1000


async def test_server_sent_events(daemon: Daemon) -> None:
    (daemon.work_dir / "d").mkdir()
    async with daemon.http.get("/files/watch", params={"path": "d", "windowMs": "0"}) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        (daemon.work_dir / "d/f").write_text("")
        (daemon.work_dir / "d/f").unlink()
        (daemon.work_dir / "d").rmdir()
        lines = (await response.read()).decode().splitlines()
    assert lines[0] == ":"
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert events[-1] == {"type": "deleted", "path": str(daemon.work_dir / "d"), "isDir": True}
    assert "event: deleted" in lines


@pytest.mark.parametrize(("path", "status"), [("none", 404), ("/dev/null", 400), ("a\0b", 400)])
async def test_what_cannot_be_watched(daemon: Daemon, path: str, status: int) -> None:
    for upgrade in ({}, {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x" * 22 + "=="}):
        async with daemon.http.get("/files/watch", params={"path": path}, headers=upgrade) as response:
            assert response.status == status
            assert (await response.json())["source"] == "DAYTONA_DAEMON"


async def test_nothing_is_left_when_clients_leave(daemon: Daemon) -> None:
    before = _inotify_descriptors()
    for number in range(10):
        async with watching(daemon):
            assert _inotify_descriptors() > before
        async with daemon.http.get("/files/watch"):
            (daemon.work_dir / str(number)).touch()
    async with asyncio.timeout(20):
        while _inotify_descriptors() > before:
            await asyncio.sleep(0.01)


def _inotify_descriptors() -> int:
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:inotify"
        except FileNotFoundError:
            continue
    return found


@pytest.fixture
async def make_watch(tmp_path: Path) -> AsyncIterator[Callable[..., Watch]]:
    async with FileThreads() as threads:
        yield lambda **options: Watch(
            threads, str(tmp_path), options.pop("filter_", Filter()), recursive=True, window=0.01, **options
        )


async def test_a_client_that_does_not_listen_is_told_of_an_overflow(
    make_watch: Callable[..., Watch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_EVENTS", 100)
    async with make_watch() as watched:
        for number in range(150):
            (tmp_path / str(number)).touch()
        async with asyncio.timeout(20):
            while not watched._changes._overflown:
                await asyncio.sleep(0.01)
            async for batch in watched:
                assert batch[0].type == "overflow"
                assert batch[0].path == str(tmp_path)
                assert len(batch) <= 100
                break


async def test_an_overflow_in_the_kernel_is_told_and_survived(
    make_watch: Callable[..., Watch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (tmp_path / "gone").mkdir()
    async with make_watch(filter_=Filter(exclude=path_matcher(["[0-9]*"]))) as watched:

        def flood() -> None:
            """Do more than the queue holds, while the loop is not allowed to read."""
            (tmp_path / "gone").rename(tmp_path / "renamed")
            for number in range(limit // 2 + 100):
                os.close(os.open(tmp_path / f"{number % 100}", os.O_CREAT | os.O_WRONLY))
                os.unlink(tmp_path / f"{number % 100}")
            (tmp_path / "late/dir").mkdir(parents=True)

        flood()
        seen: list[str] = []
        async with asyncio.timeout(60):
            async for batch in watched:
                seen += [event.type for event in batch]
                if "overflow" in seen:
                    break
            (tmp_path / "late/dir/f").touch()
            (tmp_path / "renamed/f").touch()
            wanted = {str(tmp_path / "late/dir/f"), str(tmp_path / "renamed/f")}
            async for batch in watched:
                wanted -= {event.path for event in batch}
                if not wanted:
                    break


async def test_too_many_watches_are_an_error(
    make_watch: Callable[..., Watch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Inotify, "add", refuse)
    with pytest.raises(Unavailable, match="max_user_watches"):
        async with make_watch():
            pass


def test_events_of_one_path_are_told_as_one() -> None:
    def told(*happened: tuple[str, ...]) -> list[tuple[str, ...]]:
        collected = Changes()
        for kind, path, *old in happened:
            if kind == "moved":
                collected.move(old[0], path, is_directory=False)
            else:
                collected.add(kind, path, is_directory=False)
        return [(e.type, e.path, *([e.old_path] if e.old_path else [])) for e in collected.take()]

    assert told(("created", "a"), ("modified", "a")) == [("created", "a")]
    assert told(("created", "a"), ("deleted", "a")) == []
    assert told(("deleted", "a"), ("created", "a")) == [("modified", "a")]
    assert told(("modified", "a"), ("modified", "b"), ("modified", "a")) == [("modified", "a"), ("modified", "b")]
    assert told(("modified", "a"), ("deleted", "a")) == [("deleted", "a")]
    assert told(("created", "t"), ("moved", "a", "t")) == [("created", "a")]
    assert told(("moved", "b", "a"), ("modified", "b")) == [("moved", "b", "a"), ("modified", "b")]
    assert told(("moved", "b", "a"), ("created", "a")) == [("moved", "b", "a"), ("created", "a")]
    assert told(("created", "a"), ("created", "t"), ("moved", "a", "t")) == [("created", "a")]


class TestWait:
    async def _wait(self, daemon: Daemon, path: str, until: str, timeout: float = 20, **more: str) -> tuple[int, Any]:
        query = {"path": path, "until": until, "timeout": str(timeout), **more}
        async with daemon.http.get("/files/wait", params=query) as response:
            return response.status, await response.json()

    async def test_until_it_exists(self, daemon: Daemon) -> None:
        waiting = asyncio.ensure_future(self._wait(daemon, "a/b/f", "exists"))
        await asyncio.sleep(0.05)
        (daemon.work_dir / "a/b").mkdir(parents=True)
        await asyncio.sleep(0.05)
        (daemon.work_dir / "a/b/f").write_text("12")
        status, answer = await waiting
        assert (status, answer["state"], answer["file"]["path"]) == (200, "exists", str(daemon.work_dir / "a/b/f"))
        assert (await self._wait(daemon, "a/b/f", "exists", 0))[0] == 200

    async def test_until_it_changes(self, daemon: Daemon) -> None:
        (daemon.work_dir / "f").write_text("1")
        waiting = asyncio.ensure_future(self._wait(daemon, "f", "changed"))
        await asyncio.sleep(0.1)
        (daemon.work_dir / "f").write_text("22")
        status, answer = await waiting
        assert (status, answer["state"]) == (200, "changed")
        assert (await self._wait(daemon, "f", "changed", since="2020-01-01T00:00:00Z"))[0] == 200
        _, now = await self._wait(daemon, "f", "exists")
        assert (await self._wait(daemon, "f", "changed", 0.05, since=now["file"]["modifiedAt"]))[0] == 408

    async def test_until_it_is_gone(self, daemon: Daemon) -> None:
        (daemon.work_dir / "f").write_text("1")
        waiting = asyncio.ensure_future(self._wait(daemon, "f", "gone"))
        await asyncio.sleep(0.05)
        (daemon.work_dir / "f").unlink()
        assert await waiting == (200, {"state": "gone", "file": None})

    async def test_the_time_is_over(self, daemon: Daemon) -> None:
        status, answer = await self._wait(daemon, "never", "exists", 0.05)
        assert (status, answer["code"]) == (408, "REQUEST_TIMEOUT")
        for query in ({"until": "x"}, {"timeout": -1}, {"timeout": 10**6}):
            async with daemon.http.get("/files/wait", params={"path": "f", **query}) as response:
                assert response.status == 400
