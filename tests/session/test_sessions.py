"""Sessions against real shells: what lasts, what ends, what is never lost."""

import asyncio
import io
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Daemon, run_daemon
from toolbox.children import tree
from toolbox.config import ServeConfig
from toolbox.session import sessions

NEW = {"X-Daytona-SDK-Version": "0.226.1"}
MIDDLE = {"X-Daytona-SDK-Version": "0.100.0"}


class Client:
    """Calls of one session."""

    def __init__(self, daemon: Daemon, session: str = "s") -> None:
        self.http = daemon.http
        self.daemon = daemon
        self.path = f"/process/session/{session}"
        self.session = session

    async def create(self) -> "Client":
        async with self.http.post("/process/session", json={"sessionId": self.session}) as response:
            assert (response.status, await response.text()) == (201, "")
        return self

    async def run(self, command: str, **fields: Any) -> dict[str, Any]:
        async with self.http.post(f"{self.path}/exec", json={"command": command, **fields}, headers=NEW) as response:
            assert response.status in (200, 202), await response.text()
            answer: dict[str, Any] = await response.json()
            return answer

    async def start(self, command: str, **fields: Any) -> str:
        return str((await self.run(command, runAsync=True, **fields))["cmdId"])

    async def refused(self, command: str) -> tuple[int, str]:
        async with self.http.post(f"{self.path}/exec", json={"command": command}, headers=NEW) as response:
            return response.status, (await response.json())["code"]

    async def command(self, command_id: str) -> dict[str, Any]:
        async with self.http.get(f"{self.path}/command/{command_id}") as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    async def logs(self, command_id: str, **query: Any) -> dict[str, Any]:
        async with self.http.get(f"{self.path}/command/{command_id}/logs", params=query, headers=NEW) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    async def input(self, command_id: str, data: str) -> int:
        async with self.http.post(f"{self.path}/command/{command_id}/input", json={"data": data}) as response:
            return response.status

    async def ended(self, command_id: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while (info := await self.command(command_id))["status"] != "exited":
                await asyncio.sleep(0.02)
        return info

    async def follow(self, command_id: str, headers: dict[str, str] = NEW, **query: str) -> bytes:
        url = f"{self.path}/command/{command_id}/logs"
        received = b""
        async with self.http.ws_connect(url, headers=headers, params={"follow": "true", **query}) as ws:
            async for message in ws:
                received += message.data
            assert ws.close_code == 1000
        return received


@pytest.fixture
async def session(daemon: Daemon) -> Client:
    return await Client(daemon).create()


@pytest.mark.parametrize(
    ("command", "code", "stdout", "stderr"),
    [
        ("echo out; echo err >&2", 0, "out\n", "err\n"),
        ("printf abc", 0, "abc", ""),
        ("printf 'a\\0b\\1\\1\\1c\\2\\2\\2d'", 0, "a\0b\1\1\1c\2\2\2d", ""),
        ("printf 'a\\377b'", 0, "a\ufffdb", ""),
        ("false", 1, "", ""),
        ("(exit 7)", 7, "", ""),
        ("return 9", 9, "", ""),
        ("cat; read x; echo end", 0, "end\n", ""),
        ("cat <<EOF\none\ntwo\nEOF", 0, "one\ntwo\n", ""),
        ("echo 'a\nb'", 0, "a\nb\n", ""),
        ("sh -c 'kill -9 $$'", 137, "", None),
        ("no-such-command", 127, "", None),
        ("if", 2, "", None),
        ("break; continue; echo still here", 0, "still here\n", None),
        ("exec 3>&1; echo x >&3; exec 1>/dev/null; echo lost", 0, "x\n", ""),
        ("exec </dev/null; exec >&-; exec 2>&-", 0, "", ""),
        ("trap 'echo trapped' EXIT; echo set", 0, "set\n", ""),
        ("printf() { echo mine; }; read() { :; }; echo defined", 0, "defined\n", ""),
        ("seq 1 100000", 0, "".join(f"{n}\n" for n in range(1, 100001)), ""),
    ],
)
async def test_one_command(session: Client, command: str, code: int, stdout: str, stderr: str | None) -> None:
    answer = await session.run(command)
    assert (answer["exitCode"], answer["stdout"]) == (code, stdout)
    if stderr is not None:
        assert answer["stderr"] == stderr
    assert (await session.run("echo after"))["stdout"] == "after\n"
    assert await session.logs(answer["cmdId"]) == {name: answer[name] for name in ("output", "stdout", "stderr")}


async def test_what_lasts_between_commands(session: Client) -> None:
    await session.run("cd /; X=1; export Y=2; f() { echo f$1; }; shopt -s nullglob; set -o pipefail")
    answer = await session.run('pwd; echo $X; sh -c "echo \\$Y"; f 3; echo *nothing*; false | true; echo $?')
    assert answer["stdout"] == "/\n1\n2\nf3\n\n1\n"


async def test_a_script_of_ten_megabytes(session: Client) -> None:
    body = io.BytesIO(json.dumps({"command": "x='" + "a" * 10_000_000 + "'; echo ${#x}"}).encode())
    async with session.http.post(f"{session.path}/exec", data=body, headers=NEW) as response:
        assert (await response.json())["stdout"] == "10000000\n"


async def test_commands_run_one_after_the_other(session: Client) -> None:
    ids = [await session.start(f"sleep 0.0{9 - n}; echo {n} >> order") for n in range(5)]
    assert (await session.run("cat order"))["stdout"] == "0\n1\n2\n3\n4\n"
    async with session.http.get(session.path) as response:
        commands = (await response.json())["commands"]
    assert [command["id"] for command in commands][:5] == ids


async def test_how_a_command_stands(session: Client) -> None:
    first = await session.start("sleep 1000")
    second = await session.start("echo never")
    while (running := await session.command(first))["status"] != "running":
        await asyncio.sleep(0.01)
    assert "exitCode" not in running
    assert "endedAt" not in running
    assert (await session.command(second))["status"] == "queued"
    async with session.http.delete(session.path) as response:
        assert response.status == 204
    async with session.http.get(session.path) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 7", 7), ("set -e; false", 1), ("exec sh -c 'echo replaced; exit 5'", 5), ("kill -9 $$", 137)],
)
async def test_a_shell_that_ends(session: Client, command: str, code: int) -> None:
    waiting = await session.start("sleep 0.2")
    later = asyncio.ensure_future(session.run(f"echo before; {command}"))
    await asyncio.sleep(0)
    answer = await later
    assert answer["exitCode"] == code
    assert answer["stdout"].startswith("before\n")
    assert await session.refused("echo x") == (410, "SESSION_ENDED")
    assert (await session.command(waiting))["exitCode"] == 0
    assert (await session.logs(answer["cmdId"]))["stdout"] == answer["stdout"]
    async with session.http.get(session.path) as response:
        assert (await response.json())["status"] == "ended"


async def test_commands_behind_the_end_are_never_run_and_say_so(session: Client, daemon: Daemon) -> None:
    first = await session.start("sleep 0.3; exit 3")
    second = await session.start("touch ran")
    info = await session.ended(second)
    assert info["exitCode"] == -1
    assert info["cause"] == "unknown"
    assert (await session.command(first))["exitCode"] == 3
    assert not (daemon.work_dir / "ran").exists()
    assert await session.follow(second) == b""


async def test_a_background_job_neither_holds_the_command_nor_loses_its_output(session: Client) -> None:
    answer = await session.run("(sleep 0.3; echo later) & echo now")
    assert answer["stdout"] == "now\n"
    async with asyncio.timeout(10):
        while (await session.logs(answer["cmdId"]))["stdout"] != "now\nlater\n":
            await asyncio.sleep(0.02)


async def test_input(session: Client) -> None:
    command = await session.start("while read line; do echo got $line; done; echo end", suppressInputEcho=True)
    assert await session.input(command, "one") == 204
    assert await session.input(command, "two\n") == 204
    async with asyncio.timeout(10):
        while (await session.logs(command))["stdout"] != "got one\ngot two\n":
            await asyncio.sleep(0.01)
    assert await session.input(command, "") == 400
    assert await session.input("nope", "x") == 404


async def test_input_is_echoed_unless_suppressed_and_waits_for_a_queued_command(session: Client) -> None:
    await session.start("sleep 0.2")
    command = await session.start("read x; echo got $x")
    assert await session.input(command, "early") == 204
    await session.ended(command)
    assert (await session.logs(command))["stdout"] == "early\ngot early\n"
    async with session.http.post(f"{session.path}/command/{command}/input", json={"data": "x"}) as response:
        assert response.status == 410
        assert (await response.json())["code"] == "COMMAND_ALREADY_COMPLETED"


async def test_shapes_of_output_by_sdk_version(session: Client) -> None:
    path = f"{session.path}/exec"
    command = {"command": "echo a; echo b >&2"}
    async with session.http.post(path, json=command) as response:
        combined = await response.json()
    assert sorted(combined["output"].split()) == ["a", "b"]
    assert combined["stdout"] is combined["stderr"] is None
    async with session.http.post(path, json=command, headers=MIDDLE) as response:
        marked = await response.json()
    assert "\1\1\1a\n" in marked["output"]
    assert "\2\2\2b\n" in marked["output"]
    assert marked["stdout"] is None
    for headers, content_type in (({}, "text/plain"), (MIDDLE, "text/plain"), (NEW, "application/json")):
        async with session.http.get(f"{session.path}/command/{marked['cmdId']}/logs", headers=headers) as response:
            assert response.content_type == content_type
    async with session.http.get(
        f"{session.path}/command/{marked['cmdId']}/logs", headers={"X-Daytona-Split-Output": "true"}
    ) as response:
        assert (await response.json())["stderr"] == "b\n"


async def test_following_from_the_start_to_the_last_byte(session: Client) -> None:
    command = await session.start("for n in 1 2 3; do echo $n; sleep 0.05; done; printf end; seq 1 20000 >&2")
    expected = b"1\n2\n3\nend"
    followers = await asyncio.gather(*(session.follow(command) for _ in range(10)))
    assert len(set(followers)) == 1
    parts = followers[0].split(b"\2\2\2")
    assert parts[0].replace(b"\1\1\1", b"") == expected
    assert b"".join(parts[1:]) == b"".join(b"%d\n" % n for n in range(1, 20001))
    assert await session.follow(command) == followers[0]
    assert (await session.follow(command, offset="6")).startswith(b"\1\1\1end")
    assert (await session.follow(command, headers={})).startswith(expected)


async def test_server_sent_events_resume(session: Client) -> None:
    command = await session.start("echo one; sleep 0.1; echo two >&2; exit 4")
    url = f"{session.path}/command/{command}/logs?follow=true"

    async def events(**headers: str) -> list[str]:
        async with session.http.get(url, headers={"Accept": "text/event-stream", **headers}) as response:
            assert response.content_type == "text/event-stream"
            return (await response.text()).strip().split("\n\n")

    everything = await events()
    assert everything[0] == 'event: stdout\nid: 4\ndata: "one\\n"'
    assert everything[-2] == 'event: stderr\nid: 8\ndata: "two\\n"'
    assert json.loads(everything[-1].partition("data: ")[2])["exitCode"] == 4
    assert await events(**{"Last-Event-ID": "4"}) == everything[1:]


async def test_old_output_goes_first_and_is_said(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(session_log_limit_mb="1")) as daemon:
        session = await Client(daemon).create()
        answer = await session.run("head -c 5000000 /dev/zero | tr '\\0' x; echo last")
        info = await session.command(answer["cmdId"])
        assert info["outputEnd"] == 5_000_005
        assert 3_900_000 < info["outputStart"] < 5_000_005
        logs = await session.logs(answer["cmdId"])
        assert len(logs["stdout"]) == info["outputEnd"] - info["outputStart"]
        assert logs["stdout"].endswith("xlast\n")


async def test_a_stuck_follower_costs_nobody_anything(session: Client) -> None:
    url = f"{session.path}/command/{{}}/logs?follow=true"
    command = await session.start("head -c 8000000 /dev/zero | tr '\\0' x; echo done")
    async with session.http.ws_connect(url.format(command), headers=NEW) as stuck:
        assert (await session.ended(command))["exitCode"] == 0
        assert (await session.follow(command)).endswith(b"done\n")
        received = 0
        async for message in stuck:
            received += len(message.data)
        assert received > 8_000_000


async def test_deleting_ends_the_tree_and_the_waiting(session: Client, daemon: Daemon) -> None:
    script = "setsid sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.1; done' & trap '' TERM; sleep 1000"
    waiting = asyncio.ensure_future(session.run(script))
    pid = daemon.work_dir / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        await asyncio.sleep(0.02)
    async with session.http.get(session.path) as response:
        command = (await response.json())["commands"][0]["id"]
    async with session.http.ws_connect(f"{session.path}/command/{command}/logs?follow=true", headers=NEW) as ws:
        async with session.http.delete(session.path) as response:
            assert response.status == 204
        # The shell may still tell of what was killed.
        while (message := await ws.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1000)
    with pytest.raises(AssertionError, match="SESSION_ENDED"):
        await waiting
    stat = tree.read_stat(int(pid.read_text()))
    assert stat is None or stat.state == "Z"


@pytest.mark.parametrize("session_id", ["a/b", "../x", "..", ".", "a\0b", "a" * 300, "", "entrypoint", "a\nb", "a\\b"])
async def test_bad_ids(daemon: Daemon, session_id: str) -> None:
    async with daemon.http.post("/process/session", json={"sessionId": session_id}) as response:
        assert response.status == 400
    async with daemon.http.get("/process/session") as response:
        assert await response.json() == []


async def test_two_clients_creating_the_same_session(daemon: Daemon) -> None:
    async def create() -> int:
        async with daemon.http.post("/process/session", json={"sessionId": "same"}) as response:
            return response.status

    assert sorted(await asyncio.gather(*(create() for _ in range(5)))) == [201, 409, 409, 409, 409]


async def test_unknown_things(daemon: Daemon) -> None:
    session = Client(daemon, "nope")
    for method, path in (
        ("GET", session.path),
        ("DELETE", session.path),
        ("GET", f"{session.path}/command/x"),
        ("GET", f"{session.path}/command/x/logs"),
        ("GET", "/process/session/entrypoint"),
        ("GET", "/process/session/entrypoint/logs"),
    ):
        async with daemon.http.request(method, path) as response:
            assert (response.status, (await response.json())["code"]) == (404, "NOT_FOUND")
    assert await session.refused("echo x") == (404, "NOT_FOUND")
    await session.create()
    assert await session.refused("  ") == (400, "BAD_REQUEST")
    assert await session.refused("") == (400, "INVALID_REQUEST_BODY")
    with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
        await daemon.http.ws_connect(f"{session.path}/command/x/logs?follow=true")


async def test_kill_everything_of_the_user_leaves_the_daemon(session: Client) -> None:
    started = await session.start("sleep 1000 & kill -9 $! $$")
    assert (await session.ended(started))["exitCode"] == 137
    assert (await session.daemon.execute("echo ok"))["result"] == "ok\n"


async def test_fifty_busy_sessions_are_left_without_a_trace(
    serve_config: Callable[..., ServeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # other tests make sessions meanwhile
    async with run_daemon(serve_config()) as daemon:
        sessions = [await Client(daemon, f"s{n}").create() for n in range(50)]
        assert len(list(tmp_path.glob("toolboxd.*/session-*"))) == 50
        await asyncio.gather(*(each.start("while :; do sleep 0.2; done") for each in sessions))
        answers = await asyncio.gather(*(Client(daemon, f"t{n}").create() for n in range(10)))
        assert [(await each.run("echo hi"))["stdout"] for each in answers] == ["hi\n"] * 10
    assert list(tmp_path.glob("toolboxd.*")) == []


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh", "busybox"])
async def test_other_shells(serve_config: Callable[..., ServeConfig], tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"not possible here: {shell} is not installed")
    if shell == "busybox":
        program = str(tmp_path / "sh")
        Path(program).symlink_to(shutil.which("busybox") or "")
    async with run_daemon(serve_config(shell=program)) as daemon:
        session = await Client(daemon).create()
        await session.run("cd /; X=5")
        answer = await session.run("pwd; echo $X; echo err >&2; cat; (exit 3)")
        assert (answer["exitCode"], answer["stdout"], answer["stderr"]) == (3, "/\n5\n", "err\n")
        answer = await session.run("printf() { :; }; exec 1>&-; sh -c 'ls -l /proc/self/fd' >&2; exit 4")
        assert answer["exitCode"] == 4
        assert "script" not in answer["stderr"]


async def test_the_shell_dies_in_the_middle_of_a_command(session: Client) -> None:
    command = await session.start("echo $$; sleep 1000")
    async with asyncio.timeout(10):
        while not (await session.logs(command))["stdout"]:
            await asyncio.sleep(0.01)
    os.kill(int((await session.logs(command))["stdout"]), signal.SIGKILL)
    info = await session.ended(command)
    assert (info["exitCode"], info["cause"]) == (137, "SIGKILL")
    async with session.http.delete(session.path) as response:
        assert response.status == 204


async def test_the_last_commands_are_kept(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_COMMANDS", 3)
    client = await Client(daemon).create()
    # What the first leaves behind goes on printing, to nobody.
    behind = "(while :; do echo more; sleep 0.01; done) & echo 0"
    ids = [(await client.run(text))["cmdId"] for text in (behind, *(f"echo {number}" for number in range(1, 5)))]
    async with daemon.http.get(client.path) as response:
        listed = (await response.json())["commands"]
    assert [(each["id"], each["command"]) for each in listed] == [(ids[n], f"echo {n}") for n in (2, 3, 4)]
    async with daemon.http.get(f"{client.path}/command/{ids[1]}/logs", headers=NEW) as response:
        assert response.status == 404
    assert (await client.logs(ids[2]))["stdout"] == "2\n"
    # None that has not ended is forgotten, however many wait behind it.
    waiting = [await client.start("read line; echo $line"), *[await client.start("echo after") for _ in range(4)]]
    assert [each for each in waiting if (await client.command(each))["status"] == "exited"] == []
    async with daemon.http.post(f"{client.path}/command/{waiting[0]}/input", json={"data": "go"}) as response:
        assert response.status == 204
    await client.run("true")
    assert (await client.logs(waiting[-1]))["stdout"] == "after\n"
