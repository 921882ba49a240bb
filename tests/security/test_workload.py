"""What a workload user cannot do to the daemon that runs as root: tried from within, by that user."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Toolboxd

USER = "nobody"
TOKEN = "the-token-of-this-daemon"
KEY = "the-signing-key-of-this-daemon"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not possible here: acting as another user needs root")


class Sandbox:
    """A daemon of root, a client of it, and a place that the workload user can get to."""

    def __init__(self, directory: Path, pid: int, http: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.work = directory / "work"
        self.state = directory / "state"
        self.pid = pid
        self.http = http

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Call the daemon and return the JSON answer."""
        async with self.http.request(method, path, **options) as response:
            assert response.ok, await response.text()
            return json.loads(await response.read() or b"null")

    async def execute(self, command: str, **fields: Any) -> str:
        """Run a command as the workload user and return its output."""
        answer = await self.call("POST", "/process/execute", json={"command": command, **fields})
        assert answer["exitCode"] == 0, answer
        return str(answer["result"])

    async def attempts(self, program: str) -> dict[str, str]:
        """Run a Python program whose functions are attempts, and return how each one ended."""
        (self.work / "attempts.py").write_text(ATTEMPTS + textwrap.dedent(program) + "report()\n")
        found = await self.execute(f"/usr/bin/python3 -I attempts.py {self.pid} {self.directory}")
        outcome: dict[str, str] = json.loads(found)
        return outcome


ATTEMPTS = """
import ctypes, json, os, signal, socket, sys
from pathlib import Path

pid, directory = int(sys.argv[1]), Path(sys.argv[2])
proc, libc, tried = Path(f"/proc/{pid}"), ctypes.CDLL(None, use_errno=True), {}

def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def attempt(function):
    try:
        tried[function.__name__] = f"done: {function()!r}"
    except OSError as error:
        tried[function.__name__] = type(error).__name__

def report():
    print(json.dumps(tried))
"""


@asynccontextmanager
async def sandbox(directory: Path, *options: str) -> AsyncIterator[Sandbox]:
    (directory / "work").mkdir()
    shutil.chown(directory / "work", USER)
    secret = directory / "token"
    secret.write_text(TOKEN)
    secret.chmod(0o600)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))}
    directories = ("--work-dir", str(directory / "work"), "--state-dir", str(directory / "state"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "toolbox", "serve", "--port", "0", "--user", USER, "--token-file", str(secret)),
        *(*directories, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environ, "TOOLBOX_SHELL": "/bin/bash", "TOOLBOX_SIGNING_KEY": KEY, "HOME": str(directory)},
        cwd=directory,
    )
    toolboxd = Toolboxd(process)
    try:
        url = f"http://127.0.0.1:{await toolboxd.port()}"
        async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
            yield Sandbox(directory, process.pid, http)
    finally:
        await toolboxd.end()


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory that everybody can get to, as no directory of pytest's is."""
    with tempfile.TemporaryDirectory(prefix="toolbox-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def box(place: Path) -> AsyncIterator[Sandbox]:
    async with sandbox(place) as found:
        yield found


async def test_its_memory_cannot_be_read_or_written(box: Sandbox) -> None:
    outcome = await box.attempts("""
        @attempt
        def memory(): return (proc / "mem").open("rb").read(1)
        @attempt
        def memory_for_writing(): return (proc / "mem").open("r+b")
        @attempt
        def maps(): return (proc / "maps").read_text()
        @attempt
        def attach(): return call(libc.ptrace, 16, pid, None, None)
        @attempt
        def seize(): return call(libc.ptrace, 0x4206, pid, None, None)
        @attempt
        def copy():
            room = ctypes.create_string_buffer(8)
            class Part(ctypes.Structure):
                _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
            here, there = Part(ctypes.addressof(room), 8), Part(0x400000, 8)
            return call(libc.process_vm_readv, pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    """)
    assert outcome == dict.fromkeys(outcome, "PermissionError")
    assert len(outcome) == 6


async def test_its_token_environment_and_state_cannot_be_read(box: Sandbox) -> None:
    assert (box.state / "layout.json").read_text()
    outcome = await box.attempts("""
        @attempt
        def environment(): return (proc / "environ").read_bytes()
        @attempt
        def descriptors(): return os.listdir(proc / "fd")
        @attempt
        def root(): return os.listdir(proc / "root")
        @attempt
        def token_file(): return (directory / "token").read_text()
        @attempt
        def state(): return os.listdir(directory / "state")
        @attempt
        def state_file(): return (directory / "state/layout.json").read_text()
        @attempt
        def new_state(): return (directory / "state/new").touch()
    """)
    assert outcome == dict.fromkeys(outcome, "PermissionError")
    assert len(outcome) == 7
    # The same as files of the sandbox, by its own client: these threads belong to the daemon's process.
    for path in (
        "/proc/self/environ",
        f"/proc/{box.pid}/environ",
        "/proc/thread-self/environ",
        f"{box.state}/layout.json",
    ):
        async with box.http.get("/files/download", params={"path": path}) as response:
            assert response.status == 403, path


async def test_it_cannot_be_signalled(box: Sandbox) -> None:
    outcome = await box.attempts("""
        @attempt
        def ask(): return os.kill(pid, 0)
        @attempt
        def stop(): return os.kill(pid, signal.SIGSTOP)
        @attempt
        def end(): return os.kill(pid, signal.SIGKILL)
        @attempt
        def by_descriptor(): return signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
        @attempt
        def take_a_descriptor(): return call(libc.syscall, 438, os.pidfd_open(pid), 0, 0)
        @attempt
        def priority(): return os.setpriority(os.PRIO_PROCESS, pid, 19)
        @attempt
        def sacrifice(): return (proc / "oom_score_adj").write_text("1000")
        @attempt
        def limit(): import resource; return resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))
    """)
    assert outcome == dict.fromkeys(outcome, "PermissionError")
    assert len(outcome) == 8


async def test_nothing_of_it_is_inherited(box: Sandbox) -> None:
    seen = await box.execute("cat /proc/self/environ; tr '\\0' ' ' < /proc/self/cmdline; ls -l /proc/self/fd; umask")
    assert TOKEN not in seen
    assert KEY not in seen
    assert str(box.state) not in seen
    for line in seen.splitlines():
        # Of descriptors, what every program has: no socket, no event queue, no file of the daemon's.
        assert " -> " not in line or line.partition(" -> ")[2].startswith(("pipe:", "/dev/null", "/proc/", "/memfd:"))
    status = await box.execute("grep -E '^(Cap(Inh|Prm|Eff|Amb)|Uid|Gid|Groups):' /proc/self/status")
    lines = dict(line.split(":\t" if ":\t" in line else ":", 1) for line in status.splitlines())
    assert {int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert set(lines["Uid"].split()) == {"65534"}
    assert "0" not in {*lines["Gid"].split(), *lines["Groups"].split()}


async def test_its_sockets_cannot_be_connected_to(place: Path) -> None:
    """A kernel and a desktop run, so that there are all the sockets that the daemon itself listens on or makes."""
    async with sandbox(place) as box:
        await box.call("POST", "/process/interpreter/context", json={"language": "python"})
        named = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "/" in line]
        inside = [each for each in named if each.startswith(str(box.state))]
        (box.work / "sockets.json").write_text(json.dumps(inside))
        outcome = await box.attempts("""
            for number, name in enumerate(json.loads(Path("sockets.json").read_text()) + [str(directory / "state/x")]):
                def connect(name=name): return socket.socket(socket.AF_UNIX).connect(name)
                connect.__name__ = name
                attempt(connect)
        """)
        assert outcome == dict.fromkeys(outcome, "PermissionError")


async def test_a_unix_socket_it_listens_on_is_its_own(place: Path) -> None:
    other, listening = place / "other", place / "daemon.socket"
    other.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "toolbox", "serve", "--socket", str(listening), "--state-dir", str(other)),
        *("--user", USER),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environ, "HOME": str(place)},
        cwd="/",
    )
    toolboxd = Toolboxd(process)
    try:
        await toolboxd.line("Starting toolbox server on socket ")
        async with sandbox(place) as box:
            outcome = await box.attempts("""
                @attempt
                def connect(): return socket.socket(socket.AF_UNIX).connect(str(directory / "daemon.socket"))
            """)
    finally:
        await toolboxd.end()
    assert outcome == {"connect": "PermissionError"}


async def test_no_variable_of_a_client_runs_code_as_root(box: Sandbox) -> None:
    """What becomes the workload user begins as root: nothing may tell it what to load."""
    source = box.work / "evil.c"
    source.write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n"
        '__attribute__((constructor)) static void loaded(void) { if (geteuid() == 0) open("ROOT", O_CREAT, 0600); }\n'
    )
    await box.execute("gcc -shared -fPIC -o evil.so evil.c")
    evil = {"LD_PRELOAD": str(box.work / "evil.so")}
    assert await box.execute("id -un", envs=evil) == f"{USER}\n"
    await box.call("POST", "/process/pty", json={"id": "pty", "envs": evil})
    await box.call("POST", "/env", json={"set": evil})
    assert await box.execute("id -un") == f"{USER}\n"
    await box.call("POST", "/process/session", json={"sessionId": "session"})
    answer = await box.call("POST", "/process/session/session/exec", json={"command": "id -un"})
    assert answer["output"] == f"{USER}\n"
    assert not (box.work / "ROOT").exists()


async def test_a_session_writes_through_no_link_of_the_workload(box: Sandbox) -> None:
    victim = box.directory / "victim"
    victim.write_text("of root")
    victim.chmod(0o600)
    await box.call("POST", "/process/session", json={"sessionId": "session"})
    # The shell has its script open: that tells where the files of its commands are.
    command = f"""
        for d in $(ls -l /proc/$$/fd | grep -o '/[^ ]*/session-[^/ ]*' | sort -u); do
          echo $d
          for n in 1 2 3; do ln -s {victim} $d/$n.sh; ln -s {victim} $d/$n.out; done
          mv $d $d.away && ln -s {box.directory} $d
        done"""
    answer = await box.call("POST", "/process/session/session/exec", json={"command": command})
    assert "/session-" in answer["output"]
    for _ in range(3):
        answer = await box.call("POST", "/process/session/session/exec", json={"command": "echo evil"})
        assert answer["output"] == "evil\n"
    assert (victim.read_text(), victim.stat().st_uid) == ("of root", 0)
    assert sorted(os.listdir(box.directory)) == ["state", "token", "victim", "work"]


async def test_the_desktop_is_led_to_no_file_or_socket_of_root(place: Path) -> None:
    """What root makes for VNC, and connects to, is beside what the workload user can exchange."""
    async with sandbox(place, "--desktop", "openbox", "--vnc-port", "0", "--novnc-port", "0") as box:
        await box.call("POST", "/computeruse/start")
        first = (await box.call("GET", "/computeruse/process/x11vnc/status"))["pid"]
        words = Path(f"/proc/{first}/cmdline").read_text().split("\0")
        own, victim = Path(words[words.index("-unixsock") + 1]).parent, place / "victim"
        victim.write_text("of root")
        victim.chmod(0o600)
        for trap in (own / "vnc-password", own / "novnc"):
            await box.execute(f"ln -sfn {victim} {trap}")
        refused = f"ln -s {victim} {own.parent}/vnc-password; mv {own} {own}.away; touch {own.parent}/novnc/vnc.html"
        assert "Permission denied" in await box.execute(f"({refused}) 2>&1; true")
        await box.execute(f"kill -9 {first}")
        async with asyncio.timeout(60):
            while (now := await box.call("GET", "/computeruse/process/x11vnc/status")) and (
                not now["running"] or now.get("pid") == first
            ):
                await asyncio.sleep(0.1)
        assert (victim.read_text(), victim.stat().st_uid) == ("of root", 0)
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def of_root(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said = await reader.read()
            writer.close()
            await writer.wait_closed()
            heard.set_result(said)

        server = await asyncio.start_unix_server(of_root, place / "root.socket")
        await box.execute(f"ln -sfn {place}/root.socket {own}/vnc")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await box.http.ws_connect("/computeruse/vnc/websockify")
        assert await asyncio.wait_for(heard, 20) == b""
        server.close()
        await server.wait_closed()
