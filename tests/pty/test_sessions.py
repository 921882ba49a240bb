"""What terminals promise: exact output, exits that are true, clients that come and go."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pyte
import pytest

from tests.conftest import Daemon, run_daemon
from tests.pty.conftest import CREATE, EXIT_CONTROL, Connect, Pty, call
from toolbox.config import ServeConfig
from toolbox.pty import routes
from toolbox.pty.sessions import REPLAY_BYTES


def numbers(last: int) -> bytes:
    """Return what `seq` prints."""
    return "".join(f"{number}\n" for number in range(1, last + 1)).encode()


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("exit", 0, None),
        ("exit 7", 7, "non-zero exit"),
        ("exit 130", 130, "Ctrl+C"),
        ("kill -9 $$", 137, "SIGKILL"),
        ("exec sh -c 'kill -TERM $$'", 143, "SIGTERM"),
        ("exec sh -c 'kill -SEGV $$'", 139, "signal 11"),
        ("bash -c 'exit 3'; exit $?", 3, "non-zero exit"),
    ],
)
async def test_how_it_ended(daemon: Daemon, connect: Connect, command: str, code: int, reason: str | None) -> None:
    fields = {"exitCode": code, **({"exitReason": reason} if reason else {})}
    async with connect(CREATE, EXIT_CONTROL, id="p") as pty, connect("p") as plain:
        await pty.type(f"{command}\n")
        assert await pty.end() == (1011 if code else 1000, fields)
        assert await plain.end() == (1011 if code else 1000, fields)
    assert pty.controls[1:] == [{"status": "exited", **fields}]
    assert plain.controls[1:] == []
    await call(daemon, "GET", "/process/pty/p", 404)


async def test_leaving_a_nested_shell_is_not_the_end(pty: Pty) -> None:
    await pty.run("PS1=in''ner: bash --norc", "inner:")
    await pty.type("exit 3\n")
    await pty.run("echo sta''tus $?", "status 3\n")
    await pty.type("exit 4\n")
    assert await pty.end() == (1011, {"exitCode": 4, "exitReason": "non-zero exit"})


async def test_the_last_output_comes_before_the_end(connect: Connect) -> None:
    async def one(number: int) -> None:
        async with connect(CREATE, EXIT_CONTROL, id=f"p{number}") as pty:
            await pty.type("stty -opost; PS1=; seq 1 20000; exit\n")
            assert (await pty.end())[0] == 1000
            assert numbers(20000) in pty.output

    for start in range(0, 50, 5):
        await asyncio.gather(*map(one, range(start, start + 5)))


async def test_bytes_pass_unchanged_both_ways(pty: Pty) -> None:
    data = bytes(range(256)) * 40 + "é€😀".encode()
    await pty.run(f"echo g''o; exec head -c {len(data)}", "go\n")
    pty.output.clear()
    at = len(data) - 6
    for piece in (data[:at], data[at : at + 1], data[at + 1 : at + 3], data[at + 3 :]):
        await pty.type(piece)
    assert (await pty.end(), bytes(pty.output)) == ((1000, {"exitCode": 0}), data)


async def test_text_messages_are_input_too(pty: Pty) -> None:
    await pty.ws.send_str('echo "{\\"cols\\":1} ü"\n')
    await pty.until('{"cols":1} ü\n')


async def test_two_clients_share_a_terminal(pty: Pty, connect: Connect) -> None:
    async with connect("one") as other:
        assert await other.connected() == 0
        await pty.run("echo from o''ne", "from one\n")
        await other.run("echo from t''wo", "from two\n")
        await pty.until("from two\n")
        assert pty.output in other.output
    await pty.run("echo still he''re", "still here\n")


async def test_a_new_client_sees_the_last_256_kib(pty: Pty, connect: Connect) -> None:
    await pty.run("seq 1 100000; echo d''one", "done\n")
    async with connect("one") as late:
        offset = await late.connected()
        await late.until_size(REPLAY_BYTES)
        assert late.output == pty.output[-REPLAY_BYTES:]
        assert late.output.endswith(b"done\n")
    async with connect("one", offset=offset + 1000) as exact:
        assert await exact.connected() == offset + 1000
        await exact.until_size(REPLAY_BYTES - 1000)
        assert exact.output == pty.output[1000 - REPLAY_BYTES :]
    async with connect("one", offset=5) as cut:
        assert await cut.connected() == offset


async def test_a_lost_client_goes_on_exactly_where_it_was(daemon: Daemon, pty: Pty, connect: Connect) -> None:
    async with connect("one") as look:
        offset = await look.connected()
        await look.until("ready\n")
        offset += len(look.output)
    await pty.ws.close()
    received = b""
    for turn in range(20):
        async with connect("one", offset=offset + len(received)) as part:
            assert await part.connected() == offset + len(received)
            await part.type(f"seq {turn * 2000 + 1} {turn * 2000 + 2000}\n")
            # Left in the middle: the rest is printed with nobody there. All of it together is less than is kept.
            await part.until_size(1 + turn * 300)
            received += part.output
    async with connect("one", offset=offset + len(received)) as part:
        await part.until_size(len(numbers(40_000)) - len(received))
        assert received + part.output == numbers(40_000)


async def test_the_end_can_be_had_by_offset_afterwards(daemon: Daemon, connect: Connect) -> None:
    async with connect(CREATE, id="p") as pty:
        await pty.connected()
        await pty.type("stty -opost; sleep 0.5; seq 1 1000; exit 9\n")
    while (await call(daemon, "GET", "/process/pty"))["sessions"]:
        await asyncio.sleep(0.05)
    async with connect("p") as late:
        assert (await late.end())[0] == 1008
    async with connect("p", EXIT_CONTROL, offset=0) as late:
        assert await late.end() == (1011, {"exitCode": 9, "exitReason": "non-zero exit"})
        assert numbers(1000) in late.output


async def test_nobody_there_never_holds_the_shell(daemon: Daemon, pty: Pty) -> None:
    await pty.type("seq 1 1000000; touch finished\n")
    await pty.ws.close()
    while not (daemon.work_dir / "finished").exists():
        await asyncio.sleep(0.02)


async def test_a_slow_client_holds_the_shell_and_loses_nothing(daemon: Daemon, pty: Pty) -> None:
    # More than all the buffers on the way together.
    await pty.type("seq 1 3000000; touch finished; exit\n")
    await asyncio.sleep(1)
    assert not (daemon.work_dir / "finished").exists()
    assert (await pty.end())[0] == 1000
    assert pty.output[: len(numbers(3_000_000))] == numbers(3_000_000)


async def test_a_client_that_never_reads_is_cut_off(
    daemon: Daemon, pty: Pty, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "STALL_SECONDS", 0.5)
    async with connect("one") as stuck:
        await stuck.connected()
        await pty.type("seq 1 3000000; echo d''one\n")
        await pty.until("done\n")
        assert pty.output == numbers(3_000_000) + b"done\n"
        assert await stuck.end() == (1008, "slow consumer")
    await pty.run("echo st''ill", "still\n")


async def test_many_reconnects_leave_nothing(pty: Pty, connect: Connect) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for start in range(0, 100, 10):

        async def one(_: int) -> None:
            async with connect("one") as again:
                await again.connected()

        await asyncio.gather(*map(one, range(start, start + 10)))
    await pty.run("echo st''ill", "still\n")
    await asyncio.sleep(0.1)
    # Both ends of every connection are in this process.
    assert len(os.listdir("/proc/self/fd")) <= before + 16


async def test_a_dropped_connection_is_no_trouble(daemon: Daemon, pty: Pty, connect: Connect) -> None:
    async with aiohttp.ClientSession(daemon.url) as session:
        ws = await session.ws_connect("/process/pty/one/connect")
        await ws.receive()
        await pty.type("seq 1 500000; echo d''one\n")
        ws._response.connection.transport.abort()  # type: ignore[union-attr]
    await pty.until("done\n")
    assert pty.output == numbers(500_000) + b"done\n"


@pytest.mark.parametrize("politely", [True, False])
async def test_what_was_typed_just_before_leaving_counts(
    daemon: Daemon, pty: Pty, connect: Connect, politely: bool
) -> None:
    for number in range(20):
        async with connect("one") as brief:
            await brief.type(f"touch typed-{number}\n")
            if not politely:
                brief.ws._response.connection.transport.close()  # type: ignore[union-attr]
    while len(list(daemon.work_dir.glob("typed-*"))) < 20:
        await asyncio.sleep(0.01)


async def test_input_that_nobody_reads_does_not_stop_the_output(pty: Pty) -> None:
    await pty.run("echo g''o; (sleep 0.5; echo l''ater) & exec 3<&0 </dev/null; sleep 1000", "go")
    for _ in range(4):
        await pty.type(b"x" * 1_000_000)
    await pty.until("later")


async def test_a_message_over_the_limit_is_refused_and_the_terminal_stays(pty: Pty, connect: Connect) -> None:
    async with connect("one") as other:
        await other.connected()
        await other.type(bytes(routes.MAX_INPUT + 1))
        assert (await other.end())[0] == 1009
    await pty.run("echo st''ill", "still\n")


async def test_killing_the_shell_ends_the_terminal(daemon: Daemon, pty: Pty) -> None:
    process = (await call(daemon, "GET", "/process/pty/one"))["processId"]
    await pty.run("(sleep 1000; true) & echo st''arted; sleep 1000", "started")
    os.kill(process, signal.SIGKILL)
    assert await pty.end() == (1011, {"exitCode": 137, "exitReason": "SIGKILL"})


def has_the_terminal(pid: str) -> bool:
    """Tell whether a process is of the group in the foreground of its terminal."""
    _, _, group, _, _, foreground = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:6]
    return group == foreground


async def test_job_control(connect: Connect) -> None:
    async with connect(CREATE, EXIT_CONTROL, id="p") as pty:
        await pty.run("bind 'set enable-bracketed-paste off'; echo rea''dy", "ready")
        for complaint in (b"process group", b"job control"):
            assert complaint not in pty.output
        await pty.run("sh -c 'echo runn''ing; exec sleep 1000'", "running")
        start = len(pty.output)
        await pty.type(b"\x03")
        await pty.until("^C", start)
        await pty.run("echo co''de $?", "code 130")
        await pty.run("sh -c 'echo agai''n; exec sleep 1000'", "again")
        start = len(pty.output)
        await pty.type(b"\x1a")
        await pty.until("Stopped", start)
        await pty.run("jobs", "Stopped")
        await pty.run("echo shell=$$=", "=\r\n")
        shell = pty.output.rsplit(b"shell=", 1)[1].partition(b"=")[0].decode()
        await pty.run("fg; echo co''de $?", "sh -c")
        # It is named before it gets the terminal.
        while has_the_terminal(shell):
            await asyncio.sleep(0.01)
        await pty.type(b"\x03")
        await pty.run("echo aft''er", "after")
        await pty.run("sh -c 'echo ca''t; exec cat'", "cat\r\n")
        await pty.type("typed\n\x04")
        await pty.until("typed\r\ntyped\r\n")
        await pty.type("exit 5\n")
        assert await pty.end() == (1011, {"exitCode": 5, "exitReason": "non-zero exit"})


async def test_stopping_the_daemon_says_so_and_leaves_nothing(
    serve_config: Callable[..., ServeConfig], tmp_path: Path
) -> None:
    async with aiohttp.ClientSession() as http:
        async with run_daemon(serve_config()) as daemon:
            pty = Pty(await http.ws_connect(f"{daemon.url}/process/pty/{CREATE}?id=p"))
            stubborn = "trap '' HUP TERM; (setsid sleep 1000 &); sleep 1000 & echo $! > pid; echo st''arted"
            await pty.run(stubborn, "started")
            pid = (daemon.work_dir / "pid").read_text().strip()
            end = asyncio.ensure_future(pty.end())
            await asyncio.sleep(0)
        assert (await end)[0] == 1001
    assert not Path(f"/proc/{pid}").exists()


class Screen(pyte.Screen):
    """A screen that survives a query vim makes (pyte takes it for colours and fails)."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


def lines(screen: pyte.Screen) -> list[str]:
    return [line.rstrip() for line in screen.display]


async def shown(pty: Pty, screen: pyte.Screen, stream: pyte.ByteStream, ready: Callable[[list[str]], bool]) -> None:
    """Feed what comes to the screen until it is as wanted."""
    stream.feed(bytes(pty.output))
    pty.output.clear()
    async with asyncio.timeout(30):
        while not ready(lines(screen)):
            assert await pty.receive()
            stream.feed(bytes(pty.output))
            pty.output.clear()


async def test_vim(daemon: Daemon, connect: Connect) -> None:
    (daemon.work_dir / "poem").write_text("".join(f"line {number}\n" for number in range(1, 101)))
    screen = Screen(60, 12)
    stream = pyte.ByteStream(screen)
    async with connect(CREATE, id="p", cols=60, rows=12) as pty:
        await pty.type("vim -u NONE -i NONE -n -N poem\n")
        await shown(pty, screen, stream, lambda rows: rows[0] == "line 1" and rows[10] == "line 11")
        await pty.type("50Gzzohällo wörld\x1b")
        await shown(pty, screen, stream, lambda rows: "hällo wörld" in rows and rows[0].startswith("line 4"))
        screen.resize(20, 60)
        await call(daemon, "POST", "/process/pty/p/resize", 200, {"cols": 60, "rows": 20})
        await shown(pty, screen, stream, lambda rows: sum(row.startswith("line ") for row in rows) == 18)
        await pty.type(":wq\n")
        await shown(pty, screen, stream, lambda rows: any(row.endswith(("$", "#")) for row in rows))
        await pty.type("exit\n")
        await pty.end()
    assert (daemon.work_dir / "poem").read_text().splitlines()[50] == "hällo wörld"


async def test_top(connect: Connect) -> None:
    screen = Screen(100, 15)
    stream = pyte.ByteStream(screen)
    async with connect(CREATE, id="p", cols=100, rows=15) as pty:
        await pty.type("HOME=/nonexistent top -d 60\n")
        await shown(
            pty,
            screen,
            stream,
            lambda rows: rows[0].startswith("top - ") and rows[6].split()[:2] == ["PID", "USER"] and rows[14] != "",
        )
        await pty.type("q")  # and nothing more yet: top throws away what is typed ahead
        await shown(pty, screen, stream, lambda rows: rows[14].endswith(("$", "#")))
        await pty.type("exit 6\n")
        assert await pty.end() == (1011, {"exitCode": 6, "exitReason": "non-zero exit"})


async def test_busy_terminals_do_not_delay_each_other(connect: Connect) -> None:
    async with connect(CREATE, id="busy") as busy, connect(CREATE, id="quiet") as quiet:
        await busy.type("yes\n")
        reading = asyncio.ensure_future(busy.end())
        for number in range(20):
            await quiet.run(f"echo a{number}''b", f"a{number}b")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
