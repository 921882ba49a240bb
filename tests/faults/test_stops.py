"""Processes that stand still for a while: children, and the daemon itself."""

import asyncio
import os
import signal
from pathlib import Path

from tests.faults.conftest import Remote, Start, children_of

_LONG = 400 * 86_400


async def _child(daemon: Remote, words: str) -> int:
    """Return the pid of the child whose command line has `words`, once there is one."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [pid for pid in children_of(daemon.pid) if words in _command(pid)]
        return bool(found)

    await daemon.until(look)
    return found[0]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").replace("\0", " ")
    except OSError:
        return ""


async def test_stopped_children_can_be_ended(remote: Start) -> None:
    daemon = await remote()
    timed = asyncio.create_task(daemon.execute_for(2, "exec sleep 1001"))
    os.kill(await _child(daemon, "sleep 1001"), signal.SIGSTOP)
    assert (await daemon.call("POST", "/process/session", {"sessionId": "stopped"}))[0] == 201
    waiting = asyncio.create_task(daemon.session("stopped", "kill -STOP $$"))
    _, pid = await daemon.session("stopped", "echo $$", runAsync=True)
    assert (await daemon.call("POST", "/process/pty", {"id": "stopped"}))[0] in (200, 201)
    os.kill(await _child(daemon, "bash -i -l"), signal.SIGSTOP)
    assert await timed == 408
    assert (await daemon.call("DELETE", "/process/session/stopped"))[0] == 204
    assert (await waiting)[0] == 410
    assert (await daemon.call("DELETE", "/process/pty/stopped"))[0] == 200
    await daemon.works()
    assert pid["cmdId"]


async def test_children_that_go_on_have_lost_nothing(remote: Start) -> None:
    daemon = await remote()
    assert (await daemon.call("POST", "/process/session", {"sessionId": "halted"}))[0] == 201
    command = asyncio.create_task(daemon.session("halted", "seq 1 10; kill -STOP $$; seq 11 20; (exit 4)"))
    shell = await _child(daemon, "/session-")
    await daemon.until(lambda: daemon.children()[shell] == "T")
    os.kill(shell, signal.SIGCONT)
    status, answer = await command
    assert (status, answer["exitCode"], answer["stdout"]) == (200, 4, "".join(f"{n}\n" for n in range(1, 21)))
    status, context = await daemon.call("POST", "/process/interpreter/context", {})
    run = asyncio.create_task(
        daemon.run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP); print(7)", context["id"])
    )
    kernels: list[int] = []

    def stopped() -> bool:
        kernels[:] = [pid for pid, state in daemon.children().items() if state == "T"]
        return bool(kernels)

    await daemon.until(stopped)
    os.kill(kernels[0], signal.SIGCONT)
    assert [each["text"] for each in await run if each["type"] == "stdout"] == ["7\n"]


async def test_the_daemon_stands_still(remote: Start) -> None:
    daemon = await remote()
    command = "touch begun; sleep 0.5; echo done; touch ended; exit 5"
    running = asyncio.create_task(daemon.call("POST", "/process/execute", {"command": command}))
    await daemon.until((daemon.home / "work/begun").exists)
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        await daemon.until((daemon.home / "work/ended").exists)
        late = [asyncio.create_task(daemon.execute(f"echo {number}")) for number in range(20)]
        done, _ = await asyncio.wait([*late, running], timeout=0.5)
        assert not done
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    assert [await each for each in late] == [f"{number}\n" for number in range(20)]
    status, answer = await running
    assert (status, answer["exitCode"], answer["result"]) == (200, 5, "done\n")
    await daemon.works()


async def test_the_clock_is_set(remote: Start, faketime: Path, tmp_path: Path) -> None:
    shift = tmp_path / "shift"
    shift.write_text("+0\n")
    daemon = await remote(
        LD_PRELOAD=str(faketime),
        FAKETIME_TIMESTAMP_FILE=str(shift),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    assert (await daemon.call("POST", "/process/session", {"sessionId": "kept"}))[0] == 201
    _, reading = await daemon.session("kept", "read line; echo $line", runAsync=True)
    # Its limit would be over if it were for the clock.
    limited = asyncio.create_task(daemon.execute_for(90, "until [ -e go ]; do sleep 0.2; done"))
    today = int(await daemon.execute("date +%s"))
    for seconds in (_LONG, -_LONG):
        shift.write_text(f"{seconds:+}\n")
        assert abs(int(await daemon.execute("date +%s")) - today - seconds) < 1000
    await daemon.execute("touch go")
    assert await limited == 200
    path = f"/process/session/kept/command/{reading['cmdId']}"
    assert (await daemon.call("POST", f"{path}/input", {"data": "still"}))[0] in (200, 204)
    await daemon.until_ended(path)
    assert b"still\n" in (await daemon.call("GET", f"{path}/logs"))[1]
    await daemon.works()
