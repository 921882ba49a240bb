"""Children on a pseudo-terminal."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.conftest import ALLOWED_SKIP
from toolbox.children.process import Children
from toolbox.children.terminal import INPUT_BYTES, Size, Terminal, open_terminal

ENV = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": "/nonexistent", "PS1": "$ ", "ENV": "", "LC_ALL": "C.UTF-8"}
SIZE = Size(100, 30)


class Kept:
    """Keeps all output; `limit` is where it has no more room."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.limit = 1 << 30
        self.changed = asyncio.Event()
        self._buffer = memoryview(bytearray(65536))

    def room(self) -> memoryview:
        return self._buffer[: max(0, self.limit - len(self.data))]

    def grow(self, count: int) -> None:
        self.data += self._buffer[:count]

    def flush(self) -> None:
        self.changed.set()

    async def until(self, text: bytes) -> None:
        """Wait until `text` was printed."""
        while text not in self.data:
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
async def children() -> AsyncIterator[Children]:
    async with Children() as children:
        yield children


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def start(children: Children, kept: Kept) -> Callable[..., Terminal]:
    """Return a function that starts a shell script (or a command) on a terminal."""

    def start(*argv: str, cwd: str = "/") -> Terminal:
        command = ["/bin/sh", "-c", argv[0]] if len(argv) == 1 else argv
        return open_terminal(children, command, cwd=cwd, env=ENV, size=SIZE, output=kept)

    return start


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh"])
async def test_an_interactive_shell_has_its_terminal(shell: str, start: Callable[..., Terminal], kept: Kept) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{ALLOWED_SKIP}no {shell}")
    terminal = start(path, "-i", *(["-f"] if shell == "zsh" else []))
    await terminal.write(b"echo it''self > /dev/tty; stty size; ps -o sid=,tpgid=,pgid= -p $$\n")
    await terminal.write(b"sh -c 'kill -STOP $$; echo go''ne on'; echo is $?; fg; exit 5\n")
    end = await terminal.finish()
    text = kept.data.decode()
    assert end.code == 5, text
    assert "itself\r\n" in text
    assert "30 100\r\n" in text
    assert f"{terminal.child.pid} " in text
    assert "gone on\r\n" in text
    for complaint in ("process group", "job control", "tty"):
        assert complaint not in text.replace("/dev/tty", "").replace("stty", "")


@pytest.fixture
def children_of_nobody() -> Children:
    if os.getuid() != 0:
        pytest.skip(f"{ALLOWED_SKIP}acting as another user needs root")
    return Children(user="nobody")


async def test_a_workload_user_owns_its_terminal(children_of_nobody: Children, kept: Kept) -> None:
    async with children_of_nobody as children:
        command = ["/bin/sh", "-c", "id -un; stat -c %U $(tty); echo x > /dev/tty; test -w $(tty); exit $?"]
        terminal = open_terminal(children, command, cwd="/", env=ENV, size=SIZE, output=kept)
        assert (await terminal.finish()).code == 0
    assert kept.data == b"nobody\r\nnobody\r\nx\r\n"


async def test_exit_codes_signals_and_what_cannot_run(start: Callable[..., Terminal], kept: Kept) -> None:
    assert (await start("exit 3").finish()).shell_code == 3
    assert (await start("kill -9 $$").finish()).signal == signal.SIGKILL
    assert (await start("/no/such/program", "-i").finish()).code == 127
    assert b"/no/such/program" in kept.data
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        start("true", cwd="/no/such/dir")
    assert os.listdir("/proc/self/fd") == descriptors


async def test_all_output_is_there_when_the_end_is_known(start: Callable[..., Terminal], kept: Kept) -> None:
    expected = "".join(f"{number}\r\n" for number in range(1, 20001)).encode()
    for _ in range(50):
        kept.data.clear()
        assert (await start("seq 1 20000; exit 7").finish()).code == 7
        assert kept.data == expected


async def test_a_child_that_closes_its_terminal_has_not_ended(start: Callable[..., Terminal], kept: Kept) -> None:
    terminal = start("echo one; exec <&- >&- 2>&-; sleep 0.3; exec >/dev/tty; echo two; exec >&-; sleep 0.1; exit 4")
    assert (await terminal.finish()).code == 4
    assert kept.data == b"one\r\ntwo\r\n"


async def test_a_process_left_behind_does_not_hold_up_the_end(
    start: Callable[..., Terminal], kept: Kept, tmp_path: Path
) -> None:
    terminal = start(
        "trap '' HUP; while :; do echo noise; sleep 0.01; done & echo $! > pid; echo last", cwd=str(tmp_path)
    )
    assert (await asyncio.wait_for(terminal.finish(), 30)).code == 0
    assert b"last" in kept.data
    assert Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    await terminal.child.kill_tree(grace=0)


async def test_a_reader_without_room_holds_the_child_and_loses_nothing(
    start: Callable[..., Terminal], kept: Kept
) -> None:
    kept.limit = 100_000
    terminal = start("stty -opost; seq 1 200000; echo end")
    ended = asyncio.ensure_future(terminal.finish())
    while not terminal.paused:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert len(kept.data) == kept.limit
    assert not ended.done()
    while not ended.done():
        kept.limit += 100_000
        terminal.resume()
        await asyncio.sleep(0.01)
    assert kept.data == "".join(f"{number}\n" for number in range(1, 200_001)).encode() + b"end\n"


async def test_a_child_that_ended_waits_for_its_reader(start: Callable[..., Terminal], kept: Kept) -> None:
    kept.limit = 10
    terminal = start("stty -opost; seq 1 500")
    ended = asyncio.ensure_future(terminal.finish())
    await terminal.child.wait()
    await asyncio.sleep(0.3)
    assert not ended.done()
    kept.limit = 1 << 30
    terminal.resume()
    await ended
    assert kept.data.endswith(b"\n500\n")


async def test_much_input_arrives_whole_from_many_writers(
    start: Callable[..., Terminal], kept: Kept, tmp_path: Path
) -> None:
    count, pieces = 8, [bytes([65 + number]) * 300_000 for number in range(8)]
    terminal = start(f"stty raw -echo; echo ready; head -c {count * 300_000} > got", cwd=str(tmp_path))
    await kept.until(b"ready")
    await asyncio.gather(*(terminal.write(piece) for piece in pieces))
    await terminal.finish()
    assert (tmp_path / "got").read_bytes() == b"".join(pieces)


async def test_input_nobody_reads_makes_the_writer_wait(start: Callable[..., Terminal], kept: Kept) -> None:
    terminal = start("stty raw -echo; echo ready; sleep 1000")
    await kept.until(b"ready")
    await terminal.write(bytes(INPUT_BYTES + 100_000))
    waiting = asyncio.ensure_future(terminal.write(b"more"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await terminal.child.kill_tree(grace=0)
    await terminal.finish()
    await waiting
    await terminal.write(b"after the end")
    terminal.resize(SIZE)


async def test_resizing_tells_the_foreground(start: Callable[..., Terminal], kept: Kept) -> None:
    terminal = start("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done")
    await kept.until(b"ready")
    terminal.resize(Size(132, 43))
    await terminal.finish()
    assert b"43 132" in kept.data


async def test_line_editing_knows_utf8(start: Callable[..., Terminal], kept: Kept) -> None:
    terminal = start("stty -echo; echo ready; head -n 1")
    await kept.until(b"ready\r\n")
    await terminal.write("aé\x7fb\n".encode())
    await terminal.finish()
    assert kept.data.endswith(b"ready\r\nab\r\n")


async def test_a_hang_up_reaches_the_shell(start: Callable[..., Terminal], kept: Kept) -> None:
    terminal = start("echo ready; while :; do sleep 0.1; done")
    await kept.until(b"ready")
    terminal.hang_up()
    assert (await terminal.finish()).signal == signal.SIGHUP
