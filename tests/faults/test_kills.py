"""kill -9 of whatever the daemon has started, at random moments, while every kind of service is used."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.faults.conftest import Remote, Start, children_of

_KILLS = 60
_KILLED = 137
_NUMBERS = "".join(f"{number}\n" for number in range(1, 2001))
User = Callable[[Remote, str], Awaitable[None]]


async def _execute(daemon: Remote, _: str) -> None:
    status, answer = await daemon.call("POST", "/process/execute", {"command": "sleep 0.02; exec seq 1 2000"})
    assert status == 200
    assert (answer["exitCode"], answer["result"]) == (0, _NUMBERS) or answer["exitCode"] == -1, answer


async def _code_run(daemon: Remote, _: str) -> None:
    code = "for n in range(1, 2001): print(n)"
    status, answer = await daemon.call("POST", "/process/code-run", {"code": code, "language": "python"})
    assert status == 200
    assert (answer["exitCode"], answer["result"]) == (0, _NUMBERS) or answer["exitCode"] == _KILLED, answer


async def _session(daemon: Remote, name: str) -> None:
    await daemon.call("POST", "/process/session", {"sessionId": name})
    status, answer = await daemon.session(name, "sleep 0.02; seq 1 2000")
    if status == 410:
        assert answer["code"] == "SESSION_ENDED"
        assert (await daemon.call("DELETE", f"/process/session/{name}"))[0] == 204
        return
    assert status == 200
    never_run = (answer["exitCode"], answer["stdout"]) == (-1, "")
    assert (answer["exitCode"], answer["stdout"]) == (0, _NUMBERS) or answer["exitCode"] == _KILLED or never_run, answer


async def _terminal(daemon: Remote, name: str) -> None:
    output, end = b"", None
    path = f"/process/pty/create-connect?id={name}-{os.urandom(4).hex()}"
    async with daemon.http.ws_connect(path) as socket:
        await socket.send_str("sleep 0.02; exec seq 1 2000\n")
        async for message in socket:
            output += message.data if isinstance(message.data, bytes) else b""
        end = socket.close_code
    assert end in (1000, 1011)  # exit code 0, another one
    assert len(output) < 100_000


async def _interpreter(daemon: Remote, name: str) -> None:
    status, context = await daemon.call("POST", "/process/interpreter/context", {})
    if status == 503:
        return
    assert status == 200, context
    messages = await daemon.run("for n in range(1, 2001): print(n)", context["id"])
    printed = "".join(each["text"] for each in messages if each["type"] == "stdout")
    errors = [each["name"] for each in messages if each["type"] == "error"]
    assert printed == _NUMBERS or errors in (["KernelDied"], ["KernelError"]), (errors, printed[-100:])
    assert (await daemon.call("DELETE", f"/process/interpreter/context/{context['id']}"))[0] in (200, 204)


async def _find(daemon: Remote, _: str) -> None:
    status, found = await daemon.call("GET", "/files/find?path=.&pattern=needle")
    assert (status, len(found)) == (200, 1) or status in (500, 503), found


async def _screen(daemon: Remote, _: str) -> None:
    status, answer = await daemon.call("GET", "/computeruse/screenshot")
    assert status == 200 or answer["code"] != "INTERNAL_SERVER_ERROR", answer


async def _recording(daemon: Remote, _: str) -> None:
    status, begun = await daemon.call("POST", "/computeruse/recordings/start", {})
    if status != 201:
        assert begun["code"] != "INTERNAL_SERVER_ERROR", begun
        return
    await asyncio.sleep(0.1)
    status, ended = await daemon.call("POST", "/computeruse/recordings/stop", {"id": begun["id"]})
    assert status == 200 or ended["code"] != "INTERNAL_SERVER_ERROR", ended


USERS: tuple[User, ...] = (_execute, _code_run, _session, _terminal, _interpreter, _find, _screen, _recording)


@pytest.mark.parametrize("seed", [1, 2])
async def test_kill_any_child_at_any_moment(remote: Start, seed: int) -> None:
    daemon = await remote("--log-level", "warning")
    random = Random(seed)
    assert await daemon.upload("needle.txt", b"a needle\n") == 200
    assert (await daemon.call("POST", "/computeruse/start"))[0] == 200
    await daemon.works()
    stop = asyncio.Event()
    done: Counter[str] = Counter()

    async def use(user: User) -> None:
        while not stop.is_set():
            await user(daemon, user.__name__)
            done[user.__name__] += 1

    killed: Counter[str] = Counter()
    async with asyncio.TaskGroup() as group:
        for user in USERS:
            group.create_task(use(user))
        while killed.total() < _KILLS:
            await asyncio.sleep(random.uniform(0, 0.1))
            pids = sorted(children_of(daemon.pid))
            if pids:
                with contextlib.suppress(OSError):
                    pid = random.choice(pids)
                    name = Path(f"/proc/{pid}/comm").read_text().strip()
                    os.kill(pid, signal.SIGKILL)
                    killed[name] += 1
        stop.set()
    assert not [line for line in (daemon.home / "stderr").read_text().splitlines() if '"level": "error"' in line]
    print(dict(killed), dict(done))
    await daemon.works()
    assert (await daemon.call("DELETE", "/process/session/_session"))[0] in (204, 404)
    await daemon.until(lambda: "Z" not in daemon.children().values())
    await daemon.until(lambda: not any("seq" in each or "sleep" in each for each in daemon.programs()))
    async with aiohttp.ClientSession(daemon.url) as http, http.get("/computeruse/screenshot") as response:
        assert response.status in (200, 503)
