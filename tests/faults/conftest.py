"""A daemon in a process of its own, under limits, and clients that take what comes."""

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

SDK = {"X-Daytona-SDK-Version": "0.226.1"}


@dataclass
class Remote:
    """A daemon in a process of its own."""

    process: asyncio.subprocess.Process
    url: str
    http: aiohttp.ClientSession
    home: Path
    statuses: set[int] = field(default_factory=set)
    """All that were ever answered."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Make a request and return the status and the body, decoded if it is JSON."""
        if body is not None:
            options["json"] = body
        async with self.http.request(method, path, **options) as response:
            data = await response.read()
            self.statuses.add(response.status)
            return response.status, json.loads(data) if response.content_type == "application/json" and data else data

    async def execute(self, command: str, **fields: Any) -> str:
        """Run a command, which must succeed, and return what it printed."""
        status, answer = await self.call("POST", "/process/execute", {"command": command, **fields})
        assert (status, answer.get("exitCode")) == (200, 0), answer
        return str(answer["result"])

    async def session(self, name: str, command: str, **fields: Any) -> tuple[int, Any]:
        """Run a command in a session and return status and answer."""
        return await self.call("POST", f"/process/session/{name}/exec", {"command": command, **fields}, headers=SDK)

    async def run(self, code: str, context: str | None = None) -> list[Any]:
        """Run code in the interpreter and return the messages."""
        async with self.http.ws_connect("/process/interpreter/execute") as socket:
            await socket.send_json({"code": code, **({"contextId": context} if context else {})})
            return [json.loads(message.data) async for message in socket]

    async def type(self, name: str, text: str) -> bytes:
        """Make a terminal, type, and return all it prints until its end."""
        output = b""
        status, answer = await self.call("POST", "/process/pty", {"id": name})
        assert status in (200, 201), answer
        async with self.http.ws_connect(f"/process/pty/{name}/connect") as socket:
            await socket.send_str(text)
            async for message in socket:
                output += message.data if isinstance(message.data, bytes) else b""
        return output

    async def until_ended(self, path: str) -> None:
        """Wait until a command of a session has ended."""
        async with asyncio.timeout(60):
            while (await self.call("GET", path))[1].get("status") != "exited":
                await asyncio.sleep(0.02)

    async def upload(self, path: str, content: bytes) -> int:
        """Upload a file and return the status."""
        form = aiohttp.FormData()
        form.add_field("file", content, filename="file")
        return (await self.call("POST", "/files/upload", data=form, params={"path": path}))[0]

    async def works(self) -> None:
        """Every kind of service answers, and rightly."""
        assert await self.execute("echo hello; pwd") == f"hello\n{self.home / 'work'}\n"
        name = os.urandom(4).hex()
        assert (await self.call("POST", "/process/session", {"sessionId": name}))[0] == 201
        status, answer = await self.session(name, "echo out; echo err >&2; (exit 3)")
        assert (status, answer["exitCode"], answer["stdout"], answer["stderr"]) == (200, 3, "out\n", "err\n")
        assert (await self.call("DELETE", f"/process/session/{name}"))[0] == 204
        printed = await self.type(name, "echo $((6 * 7)); exit\n")
        assert b"42\r\n" in printed
        messages = await self.run("print(6 * 7)")
        assert "".join(each["text"] for each in messages if each["type"] == "stdout") == "42\n", messages
        content = os.urandom(100_000)
        assert await self.upload(name, content) == 200
        assert await self.call("GET", "/files/download", params={"path": name}) == (200, content)
        assert (await self.call("DELETE", "/files", params={"path": name}))[0] == 204

    async def execute_for(self, seconds: int, command: str) -> int:
        """Run a command with a time limit and return the status."""
        return (await self.call("POST", "/process/execute", {"command": command, "timeout": seconds}))[0]

    async def tries(self) -> set[int]:
        """Ask for something of every kind where it may not be had; return all statuses. None of it may hang."""
        seen: set[int] = set()
        for method, path, body in (
            ("POST", "/process/execute", {"command": "echo hello"}),
            ("POST", "/process/session", {"sessionId": "tried"}),
            ("POST", "/process/session/kept/exec", {"command": "echo hello"}),
            ("POST", "/process/pty", {"id": "tried"}),
            ("POST", "/process/interpreter/context", {}),
            ("POST", "/process/code-run", {"code": "print(1)", "language": "python"}),
            ("GET", "/files?path=.", None),
            ("GET", "/files/find?path=.&pattern=hello", None),
            ("GET", "/files/search?path=.&pattern=hello", None),
            ("GET", "/git/status?path=.", None),
            ("GET", "/process", None),
            ("GET", "/port", None),
            ("GET", "/system/metrics", None),
            ("DELETE", "/process/session/tried", None),
            ("DELETE", "/process/pty/tried", None),
        ):
            status, answer = await self.call(method, path, body)
            seen.add(status)
            assert status < 500 or answer["statusCode"] == status, (method, path, answer)
            if status >= 500:
                print(method, path, status, answer)
        return seen

    def descriptors(self) -> int:
        """Return how many descriptors the daemon has."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def commands(self) -> dict[int, tuple[str, ...]]:
        """Return the command lines of what descends from the daemon, by pid; programs by their names."""
        found, pids = {}, children_of(self.pid)
        while pids:
            pid = pids.pop()
            with suppress(OSError):
                program, *words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
                found[pid] = (Path(program).name, *words[:-1])
                pids += children_of(pid)
        return found

    async def pid_of(self, *words: str) -> int:
        """Return the process below the daemon whose command line begins so, once there is one."""
        found: list[int] = []

        def look() -> list[int]:
            found[:] = [pid for pid, command in self.commands().items() if command[: len(words)] == words]
            return found

        await self.until(look)
        return found[0]

    def programs(self) -> list[str]:
        """Return the same as texts."""
        return [" ".join(words) for words in self.commands().values()]

    def children(self) -> dict[int, str]:
        """Return the states of the daemon's children, by pid."""
        found = {}
        for pid in children_of(self.pid):
            with suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        return found

    async def until(self, holds: Callable[[], Any], seconds: float = 60) -> None:
        """Wait for something that must come about."""
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found += map(int, (thread / "children").read_text().split())
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def content_of(number: int) -> bytes:
    """Return what is to be in a file."""
    return hashlib.sha512(str(number).encode()).digest() * 200


Start = Callable[..., Awaitable[Remote]]


@pytest.fixture
async def remote(tmp_path: Path, environ: None, reap_orphans: None) -> AsyncIterator[Start]:
    """Return a function that starts a daemon; `before` are the words of a command that becomes it."""
    started: list[Remote] = []
    (tmp_path / "work").mkdir()

    async def start(*options: str, before: Sequence[str] = (), **env: str) -> Remote:
        errors = (tmp_path / "stderr").open("ab")
        process = await asyncio.create_subprocess_exec(
            *(*before, sys.executable, "-m", "toolbox", "serve", "--port", "0", "--work-dir", "work", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=tmp_path,
            env={
                **os.environ,
                "HOME": str(tmp_path),
                "TOOLBOX_STATE_DIR": str(tmp_path / "state"),
                "TOOLBOX_SHELL": "/bin/bash",
                "TOOLBOX_DESKTOP": "none",
                "TOOLBOX_RESOLUTION": "640x480",
                **env,
            },
        )
        errors.close()
        assert process.stdout is not None
        async with asyncio.timeout(60):
            found = re.search(rb"port (\d+)\n", await process.stdout.readline())
        assert found is not None
        url = f"http://127.0.0.1:{int(found[1])}"
        http = aiohttp.ClientSession(
            url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=100)
        )
        started.append(Remote(process, url, http, tmp_path))
        return started[-1]

    yield start
    for each in started:
        await each.http.close()
        if each.process.returncode is None:
            each.process.terminate()
            assert await asyncio.wait_for(each.process.wait(), 30) == 0
    ours = os.fsencode(tmp_path)
    left = [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != os.getpid() and _names(pid, ours)
    ]
    if any(each.process.returncode == -signal.SIGKILL for each in started):
        # What a killed daemon leaves is for whoever killed it: a container that ends, the control plane.
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        assert left == [], "processes left behind"


def _names(pid: int, directory: bytes) -> bool:
    try:
        return directory in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that is a file system of 8 MiB."""
    (tmp_path / "small").mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path / "small")]
    mounted = subprocess.run(argv, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"not possible here: {mounted.stderr.decode().strip()}")
    yield tmp_path / "small"
    subprocess.run(["umount", "--lazy", tmp_path / "small"], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on a disk, and return the file that takes it."""
    rest = disk / "rest"
    with rest.open("wb", 0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return rest


@pytest.fixture(scope="session")
def faketime() -> Path:
    """Return the library that lets a program see another time of day."""
    for found in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"):
        return found
    pytest.skip("not possible here: libfaketime is not installed")
