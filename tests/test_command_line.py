"""`toolboxd` as a process: ready line, tokens, signals, logs, what is left behind."""

import asyncio
import json
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Toolboxd
from toolbox.children import tree

Start = Callable[..., Awaitable[Toolboxd]]


async def execute(port: int, command: str, **fields: object) -> dict[str, object]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://127.0.0.1:{port}/process/execute", json={"command": command, **fields}) as response,
    ):
        answer: dict[str, object] = await response.json()
        return answer


def alive(marker: str) -> list[str]:
    """Return the command lines of processes that contain `marker`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if marker in line:
            found.append(line)
    return found


async def test_serve_and_stop(start_toolboxd: Start) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0")
    port = await toolboxd.port()
    assert (await execute(port, "echo hi"))["result"] == "hi\n"
    code, errors = await toolboxd.end()
    assert code == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert [line["path"] for line in lines if line["logger"] == "toolbox.access"] == ["/process/execute"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_every_process_within_the_bound(start_toolboxd: Start, number: int) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0")
    port = await toolboxd.port()
    marker = f"9{time.time_ns() % 10**8}"
    stubborn = f"trap '' TERM; sleep {marker}.1; sleep {marker}.2"
    escaped = f"(setsid env -i sleep {marker}.3 &) ; setsid nohup sleep {marker}.4 & sleep {marker}.5 & echo ok"
    assert (await execute(port, escaped))["result"] == "ok\n"
    running = asyncio.gather(execute(port, stubborn), execute(port, f"sleep {marker}"), return_exceptions=True)
    while len(await asyncio.to_thread(alive, f"sleep {marker}")) < 5:
        await asyncio.sleep(0.05)
    toolboxd.process.send_signal(number)
    async with asyncio.timeout(20):  # the stated bound is 5 s; machines are noisy
        assert await toolboxd.process.wait() == 0
    assert await asyncio.to_thread(alive, f"sleep {marker}") == []
    await running


async def test_a_generated_token_is_printed_once_and_never_logged(start_toolboxd: Start) -> None:
    toolboxd = await start_toolboxd("serve", "--host", "0.0.0.0", "--port", "0")
    token = await toolboxd.line("TOOLBOX_TOKEN=")
    port = await toolboxd.port()
    async with aiohttp.ClientSession() as http:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {token}"}, 200)):
            async with http.get(f"http://127.0.0.1:{port}/version", headers=headers) as response:
                assert response.status == status
        async with http.get(f"http://127.0.0.1:{port}/version?DAYTONA_SANDBOX_AUTH_KEY={token}") as response:
            assert response.status == 200
    _, errors = await toolboxd.end()
    assert token not in errors
    assert "DAYTONA_SANDBOX_AUTH_KEY" not in errors


async def test_a_port_in_use_is_a_plain_error(start_toolboxd: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        toolboxd = await start_toolboxd("serve", "--port", str(taken.getsockname()[1]))
        _, errors = await toolboxd.process.communicate()
    assert toolboxd.process.returncode == 2
    assert b"cannot listen" in errors
    assert b"Traceback" not in errors


async def test_bad_options_are_plain_errors(start_toolboxd: Start) -> None:
    toolboxd = await start_toolboxd("serve", "--work-dir", "/no/such/dir")
    _, errors = await toolboxd.process.communicate()
    assert toolboxd.process.returncode == 2
    assert errors.decode() == "toolboxd: the work dir is not a directory: /no/such/dir\n"


async def test_a_unix_socket_left_by_a_killed_daemon_is_replaced(start_toolboxd: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "d.sock")
    first = await start_toolboxd("serve", "--socket", path)
    await first.line("Starting toolbox server on socket")
    first.process.kill()
    await first.end()
    second = await start_toolboxd("serve", "--socket", path)
    await second.line("Starting toolbox server on socket")
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
        async with http.get("http://d/version") as response:
            assert response.status == 200
    third = await start_toolboxd("serve", "--socket", path)
    _, errors = await third.process.communicate()
    assert b"cannot listen" in errors
    await second.end()
    assert not Path(path).exists()


async def test_the_entrypoint_runs_beside_and_ends_with_the_daemon(start_toolboxd: Start, tmp_path: Path) -> None:
    script = "echo from the entrypoint; echo $$ > entrypoint.pid; exec sleep 1000"
    toolboxd = await start_toolboxd("serve", "--port", "0", "--", "sh", "-c", script)
    await toolboxd.line("from the entrypoint")
    pid = tmp_path / "entrypoint.pid"
    while not (pid.exists() and pid.read_text().strip()):
        await asyncio.sleep(0.02)
    assert (await toolboxd.end())[0] == 0
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


async def test_orphans_are_reaped_while_children_keep_their_status(start_toolboxd: Start) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0")
    port = await toolboxd.port()
    await asyncio.gather(*(execute(port, "(sleep 0.1 &) ; (setsid sleep 0.2 &)") for _ in range(20)))
    answers = await asyncio.gather(*(execute(port, f"sleep 0.{n % 9}; exit {n}") for n in range(40)))
    assert [answer["exitCode"] for answer in answers] == list(range(40))

    def left() -> list[str]:
        pids = Path(f"/proc/{toolboxd.process.pid}/task/{toolboxd.process.pid}/children").read_text().split()
        return [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids if Path(f"/proc/{pid}").exists()]

    async with asyncio.timeout(60):
        while not (len(found := await asyncio.to_thread(left)) == 1 and "toolboxd-guard" in found[0]):
            await asyncio.sleep(0.1)


async def test_a_log_file_is_written_too(start_toolboxd: Start, tmp_path: Path) -> None:
    file = tmp_path / "daemon.log"
    toolboxd = await start_toolboxd("serve", "--port", "0", env={"DAYTONA_DAEMON_LOG_FILE_PATH": str(file)})
    port = await toolboxd.port()
    await execute(port, "true")
    _, errors = await toolboxd.end()
    assert file.read_text() == errors


async def test_a_stuck_stderr_does_not_stop_the_daemon(start_toolboxd: Start) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0")
    port = await toolboxd.port()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        # More than a pipe holds; nobody reads stderr before the end.
        for _ in range(1500):
            async with http.get("/version") as response:
                assert response.status == 200


async def test_doctor(start_toolboxd: Start) -> None:
    toolboxd = await start_toolboxd("doctor")
    output, errors = await toolboxd.process.communicate()
    assert toolboxd.process.returncode == 0, errors
    assert b"ok       program git" in output
    assert b"ok       pidfd" in output
    assert b"ok       library jupyter_client" in output


@pytest.mark.skipif(os.getuid() != 0, reason="not possible here: becoming another user needs root")
async def test_commands_run_as_the_workload_user(start_toolboxd: Start) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0", "--user", "nobody", "--work-dir", "/tmp")
    port = await toolboxd.port()
    answer = await execute(port, "id -un; id -u; id -Gn; echo $HOME; cat /proc/$PPID/environ; cat /etc/shadow")
    lines = str(answer["result"]).splitlines()
    assert lines[:3] == ["nobody", "65534", "nogroup"]
    assert "Permission denied" in lines[4]
    assert "Permission denied" in lines[5]


def processes_of(user: str) -> list[int]:
    """Return the live processes of a user."""
    uid = pwd.getpwnam(user).pw_uid
    found = []
    for stat in tree.all_processes():
        try:
            if stat.state not in "ZX" and Path(f"/proc/{stat.pid}").stat().st_uid == uid:
                found.append(stat.pid)
        except FileNotFoundError:
            continue
    return found


@pytest.mark.skipif(os.getuid() != 0, reason="not possible here: becoming another user needs root")
async def test_a_workload_that_kills_all_it_can_leaves_the_daemon(start_toolboxd: Start) -> None:
    # A user of this test alone: the signal goes to every process of the user.
    toolboxd = await start_toolboxd("serve", "--port", "0", "--user", "games", "--work-dir", "/tmp")
    port = await toolboxd.port()
    bystander = asyncio.ensure_future(execute(port, "sleep 1000"))
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(processes_of, "games"):
            await asyncio.sleep(0.02)
    # The kernel spares who asks for it.
    assert (await execute(port, "echo before; kill -9 -1"))["result"] == "before\n"
    assert (await bystander)["cause"] == "SIGKILL"
    assert (await execute(port, "echo still here"))["result"] == "still here\n"


@pytest.mark.skipif(os.getuid() != 0, reason="not possible here: becoming another user needs root")
async def test_a_fork_bomb_is_ended_by_its_timeout(start_toolboxd: Start) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0", "--user", "news", "--work-dir", "/tmp")
    port = await toolboxd.port()
    bomb = "ulimit -u 80; bomb() { bomb | bomb & wait; }; bomb; sleep 1000"
    answer = await execute(port, bomb, timeout=1)
    assert answer["code"] == "PROCESS_EXECUTION_TIMEOUT"
    assert await asyncio.to_thread(processes_of, "news") == []
    assert (await execute(port, "echo still here"))["result"] == "still here\n"


async def test_children_can_be_interrupted_though_the_daemon_was_started_to_ignore_it(tmp_path: Path) -> None:
    script = f"trap '' HUP QUIT INT; exec {sys.executable} -m toolbox serve --port 0 --state-dir {tmp_path}/state"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    toolboxd = Toolboxd(process)
    try:
        answer = await execute(await toolboxd.port(), "grep SigIgn /proc/self/status")
        ignored = int(str(answer["result"]).split()[1], 16)
        assert not any(ignored >> number - 1 & 1 for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT))
    finally:
        await toolboxd.end()
