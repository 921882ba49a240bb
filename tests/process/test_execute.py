"""`POST /process/execute` against real shells."""

import asyncio
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Daemon, run_daemon
from toolbox.config import ServeConfig


async def gone(pid: int) -> bool:
    """Tell whether a process ends within some seconds."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.02)
    return False


async def pid_in(path: Path) -> int:
    """Return the pid a command writes to a file, once it has."""
    for _ in range(500):
        if path.exists() and path.read_text().endswith("\n"):
            return int(path.read_text())
        await asyncio.sleep(0.01)
    raise AssertionError(f"{path} was never written")


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ("echo hi", 0, "hi\n"),
        ("echo out; echo err >&2; echo out", 0, "out\nerr\nout\n"),
        ("exit 7", 7, ""),
        ("printf abc", 0, "abc"),
        ("sh -c 'kill -9 $$'", 137, None),
        ("cat; read x; echo end", 0, "end\n"),
        ("echo a\necho b", 0, "a\nb\n"),
        ("cat <<EOF\nhello\nEOF", 0, "hello\n"),
        ("printf 'a\\xffb\\xe2\\x82'", 0, "a\ufffdb\ufffd\ufffd"),
        ("printf 'a\\0b'", 0, "a\0b"),
        ("printf '\\xe2\\x82'; sleep 0.05; printf '\\xac'", 0, "€"),
        ("if", 2, None),
        ("no-such-command", 127, None),
        ("echo ${LINENO}", 0, "1\n"),
    ],
)
async def test_exit_code_and_output(daemon: Daemon, command: str, code: int, output: str | None) -> None:
    answer = await daemon.execute(command)
    assert answer["exitCode"] == code
    if output is not None:
        assert answer["result"] == output


async def test_the_shell_is_a_session_leader_without_a_terminal(daemon: Daemon) -> None:
    answer = await daemon.execute("ps -o pid=,sid=,tty= -p $$")
    pid, session, terminal = str(answer["result"]).split()
    assert pid == session
    assert terminal == "?"


async def test_the_script_is_not_in_the_arguments_nor_an_open_file(daemon: Daemon) -> None:
    secret = "s3cr3t" + "x" * 20
    answer = await daemon.execute(f"tr '\\0' ' ' </proc/$$/cmdline; ls -l /proc/self/fd; : {secret}")
    assert secret not in str(answer["result"])
    assert "memfd" not in str(answer["result"])


async def test_cwd_and_environment(daemon: Daemon) -> None:
    (daemon.work_dir / "sub").mkdir()
    assert (await daemon.execute("pwd"))["result"] == f"{daemon.work_dir}\n"
    assert (await daemon.execute("pwd", cwd="sub"))["result"] == f"{daemon.work_dir}/sub\n"
    assert (await daemon.execute("pwd", cwd="/"))["result"] == "/\n"
    assert (await daemon.execute("pwd", cwd=""))["result"] == f"{daemon.work_dir}\n"
    assert (await daemon.execute("echo $A-$PATH", envs={"A": "1 2"}))["result"] == f"1 2-{os.environ['PATH']}\n"
    assert (await daemon.execute("echo ok", cwd=None, envs=None, timeout=None))["result"] == "ok\n"


@pytest.mark.parametrize("cwd", ["nope", "/etc/passwd", "a" * 5000])
async def test_a_bad_cwd_is_an_answer_with_exit_code_minus_one(daemon: Daemon, cwd: str) -> None:
    answer = await daemon.execute("echo hi", cwd=cwd)
    assert answer["exitCode"] == -1
    assert "cannot start" in str(answer["result"])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "INVALID_REQUEST_BODY"),
        (b"{", "INVALID_REQUEST_BODY"),
        (b"[]", "INVALID_REQUEST_BODY"),
        (b"{}", "INVALID_REQUEST_BODY"),
        (b'{"command": ""}', "INVALID_REQUEST_BODY"),
        (b'{"command": null}', "INVALID_REQUEST_BODY"),
        (b'{"command": 5}', "INVALID_REQUEST_BODY"),
        (b'{"command": "  \\n"}', "BAD_REQUEST"),
        (b'{"command": "x", "timeout": -1}', "INVALID_REQUEST_BODY"),
        (b'{"command": "x", "timeout": 0.5}', "INVALID_REQUEST_BODY"),
        (b'{"command": "x", "timeout": 1099511627776}', "INVALID_REQUEST_BODY"),
        (b'{"command": "x", "timeout": "1"}', "INVALID_REQUEST_BODY"),
        (b'{"command": "x", "envs": {"1A": "b"}}', "BAD_REQUEST"),
        (b'{"command": "x", "envs": {"A": "b\\u0000"}}', "BAD_REQUEST"),
        (b'{"command": "x", "cwd": "a\\u0000b"}', "BAD_REQUEST"),
        (b'{"command": "\xff"}', "INVALID_REQUEST_BODY"),
    ],
)
async def test_bad_requests(daemon: Daemon, body: bytes, code: str) -> None:
    async with daemon.http.post("/process/execute", data=body) as response:
        assert response.status == 400
        answer = await response.json()
    assert answer["code"] == code
    assert answer["source"] == "DAYTONA_DAEMON"
    assert answer["path"] == "/process/execute"


async def test_field_names_match_without_regard_to_case(daemon: Daemon) -> None:
    async with daemon.http.post("/process/execute", json={"Command": "pwd", "CWD": "/", "other": 1}) as response:
        assert (await response.json())["result"] == "/\n"


async def test_a_timeout_kills_the_whole_tree_and_returns_what_was_printed(daemon: Daemon) -> None:
    script = "echo partial; setsid sh -c 'echo $$ > left; exec sleep 1000' & sleep 1000"
    async with daemon.http.post("/process/execute", json={"command": script, "timeout": 1}) as response:
        assert response.status == 408
        answer = await response.json()
    assert answer["code"] == "PROCESS_EXECUTION_TIMEOUT"
    assert answer["result"] == "partial\n"
    assert await gone(await pid_in(daemon.work_dir / "left"))


async def test_a_timeout_reaches_a_process_that_left_group_session_and_parent(daemon: Daemon) -> None:
    script = "setsid sh -c 'setsid sleep 1000 & echo $! > left' ; sleep 1000"
    async with daemon.http.post("/process/execute", json={"command": script, "timeout": 1}) as response:
        assert response.status == 408
    assert await gone(await pid_in(daemon.work_dir / "left"))


async def test_a_background_child_neither_delays_the_answer_nor_loses_its_pipe(daemon: Daemon) -> None:
    script = "(sleep 0.5; echo more; sleep 0.2; echo still >&2; echo $? > status; sleep 1000) & echo $! > pid; echo now"
    answer = await asyncio.wait_for(daemon.execute(script), 5)
    assert answer == {"exitCode": 0, "result": "now\n"}
    for _ in range(500):
        if (daemon.work_dir / "status").exists():
            break
        await asyncio.sleep(0.01)
    assert (daemon.work_dir / "status").read_text() == "0\n"
    os.kill(await pid_in(daemon.work_dir / "pid"), signal.SIGKILL)


async def test_a_client_that_disconnects_ends_the_tree(daemon: Daemon) -> None:
    script = "sleep 1000 & echo $! > left; wait"
    with pytest.raises(asyncio.TimeoutError):
        async with daemon.http.post(
            "/process/execute", json={"command": script}, timeout=aiohttp.ClientTimeout(total=0.5)
        ):
            pass
    assert await gone(await pid_in(daemon.work_dir / "left"))


async def test_why_the_shell_died(daemon: Daemon) -> None:
    answer = await daemon.execute("echo before; kill -9 $$")
    assert answer == {"exitCode": -1, "result": "before\n", "cause": "SIGKILL"}


async def test_large_output_is_whole(daemon: Daemon) -> None:
    answer = await daemon.execute("seq 1 700000")
    assert answer["result"] == "".join(f"{number}\n" for number in range(1, 700001))


async def test_multibyte_characters_survive_the_chunks_of_a_large_output(daemon: Daemon) -> None:
    answer = await daemon.execute("printf a; yes '€€€€€€€€€€€€€€€€' | head -n 60000")
    assert answer["result"] == "a" + ("€" * 16 + "\n") * 60000


async def test_output_over_the_limit_keeps_both_ends_and_says_so(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(output_limit_mb="2")) as daemon:
        answer = await daemon.execute("echo first; head -c 9000000 /dev/zero | tr '\\0' x; echo; echo last")
    result, cut = str(answer["result"]), answer["cutBytes"]
    total = 6 + 9_000_000 + 1 + 5
    assert cut == total - 2 * 1024 * 1024
    assert result.startswith("first\nxxx")
    assert result.endswith("xxx\nlast\n")
    assert f"[... {cut} bytes cut ...]" in result


@pytest.mark.parametrize("shell", ["dash", "zsh", "busybox"])
async def test_other_shells(serve_config: Callable[..., ServeConfig], tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"not possible here: {shell} is not installed")
    if shell == "busybox":
        Path(tmp_path / "sh").symlink_to(program)
        program = str(tmp_path / "sh")
    async with run_daemon(serve_config(shell=program)) as daemon:
        assert await daemon.execute("echo hi; cat; exit 3") == {"exitCode": 3, "result": "hi\n"}


async def test_a_long_script_passes(daemon: Daemon) -> None:
    script = "x='" + "a" * 3_000_000 + "'; echo ${#x}"
    body = io.BytesIO(json.dumps({"command": script}).encode())
    async with daemon.http.post("/process/execute", data=body) as response:
        assert (await response.json())["result"] == "3000000\n"


async def test_five_hundred_at_once_each_get_their_own_exit_code(daemon: Daemon) -> None:
    answers = await asyncio.gather(*(daemon.execute(f"echo {number}; exit {number % 256}") for number in range(500)))
    assert [answer["exitCode"] for answer in answers] == [number % 256 for number in range(500)]
    assert [answer["result"] for answer in answers] == [f"{number}\n" for number in range(500)]
