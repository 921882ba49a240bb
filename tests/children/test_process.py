"""The spawner: exits, kills, trees, scores."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from toolbox.children import tree
from toolbox.children.process import Children
from toolbox.children.spool import OutputPipe, Spool

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
async def children() -> AsyncIterator[Children]:
    async with Children() as children:
        yield children


async def test_exit_codes_and_signals(children: Children) -> None:
    async def end_of(script: str) -> object:
        return await children.spawn(["sh", "-c", script], cwd="/", env=ENV).wait()

    ends = await asyncio.gather(end_of("exit 3"), end_of("kill -TERM $$"), end_of("true"))
    assert [(end.code, end.signal, end.shell_code, end.cause) for end in ends] == [  # type: ignore[attr-defined]
        (3, None, 3, None),
        (None, signal.SIGTERM, 143, "SIGTERM"),
        (0, None, 0, None),
    ]
    assert len(children) == 0


async def test_what_cannot_start_raises_and_leaves_nothing(children: Children) -> None:
    await children.spawn(["true"], cwd="/", env=ENV).wait()  # with the first one comes the guard, which stays
    descriptors = os.listdir("/proc/self/fd")
    for argv, cwd in ((["/no/such/program"], "/"), (["true"], "/no/such/dir"), (["/etc/passwd"], "/")):
        with pytest.raises(OSError, match=r"No such file|denied"):
            children.spawn(argv, cwd=cwd, env=ENV)
    assert len(children) == 0
    assert os.listdir("/proc/self/fd") == descriptors


async def test_kill_tree_ends_what_ignores_term_forks_and_escapes(children: Children, tmp_path: Path) -> None:
    script = """
      trap '' TERM
      setsid sh -c 'setsid sleep 1000 & echo $! >> pids'
      sleep 1000 & echo $! >> pids
      sh -c 'kill -STOP $$; sleep 1' & echo $! >> pids
      echo $$ >> pids; echo ready > ready
      while :; do sleep 0.01; done
    """
    child = children.spawn(["sh", "-c", script], cwd=str(tmp_path), env=ENV)
    while not (tmp_path / "ready").exists():
        await asyncio.sleep(0.01)
    end = await child.kill_tree(grace=0.2)
    assert end is not None
    assert end.signal == signal.SIGKILL
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        stat = tree.read_stat(pid)
        assert stat is None or stat.state == "Z"


async def test_kill_tree_after_the_child_ended_still_finds_the_rest(children: Children, tmp_path: Path) -> None:
    child = children.spawn(["sh", "-c", "sleep 1000 & echo $! > pid"], cwd=str(tmp_path), env=ENV)
    await child.wait()
    pid = int((tmp_path / "pid").read_text())
    assert tree.read_stat(pid) is not None
    await child.kill_tree(grace=0.1)
    stat = tree.read_stat(pid)
    assert stat is None or stat.state == "Z"


async def test_leaving_ends_all_children_at_once(tmp_path: Path) -> None:
    async with Children() as children:
        started = [children.spawn(["sleep", "1000"], cwd="/", env=ENV) for _ in range(20)]
    assert all(child.exit is not None and child.exit.signal == signal.SIGTERM for child in started)


async def test_children_are_killed_for_memory_before_the_daemon(children: Children, tmp_path: Path) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    child = children.spawn(["sh", "-c", "cat /proc/self/oom_score_adj > score"], cwd=str(tmp_path), env=ENV)
    await child.wait()
    assert int((tmp_path / "score").read_text()) == max(own, 500)
    assert int(Path("/proc/self/oom_score_adj").read_text()) == own


async def read(children: Children, directory: Path, script: str, limit: int) -> Spool:
    pipe = OutputPipe(Spool(directory, limit))
    child = children.spawn(["sh", "-c", script], cwd="/", env=ENV, stdout=pipe.write_end)
    pipe.close_write_end()
    await child.wait()
    await pipe.finish(1)
    pipe.close()
    return pipe.spool


@pytest.mark.parametrize("size", [0, 1, 999_999, 3_000_000, 10_000_000, 10_000_001, 25_000_000])
async def test_a_spool_keeps_all_or_both_ends(children: Children, tmp_path: Path, size: int) -> None:
    limit = 10_000_000
    expected = b"".join(b"%08d" % number for number in range(size // 8 + 1))[:size]
    script = f"seq -f %08.0f 0 {size // 8} | tr -d '\\n' | head -c {size}"
    spool = await read(children, tmp_path, script, limit)
    kept = b"".join([chunk async for chunk in spool.chunks()])
    assert spool.total == size
    assert spool.cut == max(0, size - limit)
    assert kept == (expected if size <= limit else expected[: limit // 2] + expected[-(limit // 2) :])
    assert [chunk async for chunk in spool.chunks()] != [] or size == 0  # can be read again
    spool.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_full_disk_is_said_and_the_writer_goes_on(children: Children, tmp_path: Path) -> None:
    spool = await read(children, tmp_path / "missing", "head -c 5000000 /dev/zero; exit 0", 10_000_000)
    assert spool.failure is not None
    assert spool.total == 5_000_000
    # What is in memory when the disk turns out to be full is kept there.
    kept = spool.total - spool.cut
    assert 1_000_000 < kept < 2_000_000
    assert await spool.text() == "\0" * kept + f"\n[... {spool.cut} bytes cut ...]\n"
    spool.close()
