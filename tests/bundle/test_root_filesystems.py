"""The bundle in other systems: older and newer glibc, and none; at any path; as root and as somebody without a name."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import aiohttp
import pytest

from tests.bundle.conftest import PLAIN, ROOT, RootFilesystem, line
from tests.interpreter.client import CONTEXT, EXECUTE, Ran, read
from toolbox.children.tree import MARKER

pytestmark = pytest.mark.timeout(300)

ANYBODY = "12345:12345"
DISTURBING = {
    "GLIBC_TUNABLES": "glibc.malloc.check=1",
    "LC_ALL": "POSIX",
    "LD_BIND_NOW": "1",
    "LD_LIBRARY_PATH": "/nowhere:/lib",
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
}
"""Variables that would keep an ordinary Python from starting or change what it loads."""
OF_SHELLS = {"PWD", "OLDPWD", "SHLVL", "_"}


def test_sdk_and_environment(root: RootFilesystem) -> None:
    for user, home in (("0:0", "/root"), (ANYBODY, "/tmp/home")):
        drive_with_sdk(root, user, home)
        look_at_children(root, user)
        for without_home in ({"HOME": "/nowhere"}, {"HOME": "/"}, {}):
            look_at_kernel(root, user, without_home)
    become_another_user(root)
    assert root.run(f"{root.bundle}/bin/rg", "--version", user=ANYBODY).startswith("ripgrep 14.")


def drive_with_sdk(root: RootFilesystem, user: str, home: str) -> None:
    """Run the sandboxes API, which starts itself again as the daemon of a sandbox."""
    env = {**PLAIN, **DISTURBING, "HOME": home, "TOOLBOX_STATE_DIR": f"/tmp/state-{user[0]}"}
    with root.daemon("up", "--port", "0", user=user, env=env) as process:
        exports = {name: line(process, f"export {name}=") for name in ("DAYTONA_API_URL", "DAYTONA_API_KEY")}
        command = [sys.executable, "-m", "tests.bundle.journey", user.partition(":")[0]]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **exports}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def look_at_children(root: RootFilesystem, user: str) -> None:
    """Run one daemon: what it starts has exactly the variables that it was given itself."""
    given = {**PLAIN, **DISTURBING, "HOME": "/tmp"}
    own = {"TOOLBOX_STATE_DIR": f"/tmp/state-{user[0]}", "TOOLBOX_WORK_DIR": "/tmp"}
    with root.daemon("serve", "--port", "0", user=user, env={**given, **own}) as process:
        port = line(process, "Starting toolbox server on port ")
        found = dict(variable.split("=", 1) for variable in execute(port, "env").splitlines())
        # Who has no name in this system is given the number in its place.
        named = {} if user == "0:0" else dict.fromkeys(("USER", "LOGNAME"), "12345")
        expected = {**given, **own, **named, MARKER: found[MARKER]}
        assert {name: found[name] for name in found.keys() - OF_SHELLS} == expected
        assert execute(port, f"cat /proc/{process.pid}/comm") == "toolboxd\n"
        if root.name == "musl":
            assert execute(port, "linked-with-musl") == "linked with musl\n"
        assert foreign_libraries(root, process.pid) == set()


def look_at_kernel(root: RootFilesystem, user: str, home: dict[str, str]) -> None:
    """Run code in the bundle's own Python, for a user who may have neither a name nor a home to write to."""
    given = {**PLAIN, **DISTURBING, **home}
    own = {"TOOLBOX_STATE_DIR": f"/tmp/state-{user[0]}", "TOOLBOX_WORK_DIR": "/tmp"}
    (root.path / "tmp/beside.py").write_text("value = 42")
    before = {path.name for path in (root.path / "tmp").iterdir()}
    with root.daemon("serve", "--port", "0", user=user, env={**given, **own}) as process:
        port = line(process, "Starting toolbox server on port ")
        # In two kernels: one of them may have been kept ready, which then takes the variables over.
        for context in (None, create_context(port)):
            whose = interpret(port, "import os, sys; print(sys.executable, os.getuid(), os.getpid())", context).text()
            executable, uid, pid = whose.rsplit(maxsplit=2)
            assert (executable, uid) == (f"{root.bundle}/bin/python3", user.partition(":")[0])
            assert foreign_libraries(root, int(pid)) == set()
            # Programs started there are the system's, with its variables. IPython adds some.
            child = interpret(port, "!env", context).text()
            assert {*(f"{name}={value}" for name, value in given.items())} <= set(child.splitlines())
            assert ("\nHOME=" in f"\n{child}") == bool(home)
            if root.name == "musl":
                assert interpret(port, "!linked-with-musl", context).text() == "linked with musl\n"
            itself = "import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', 'print(7)']))"
            assert interpret(port, itself, context).text() == "b'7\\n'\n"
            # From the directory it runs in, from the standard library, and extension modules with libraries of ours.
            used = "import beside, sqlite3, ssl, zmq; beside.value, zmq.zmq_version_info() > (4,)"
            assert interpret(port, used, context).value() == "(42, True)"
    left = {path.name for path in (root.path / "tmp").iterdir()} - before
    assert left <= {"__pycache__", Path(own["TOOLBOX_STATE_DIR"]).name}
    assert list((root.path / own["TOOLBOX_STATE_DIR"].lstrip("/") / "kernels").iterdir()) == []


def become_another_user(root: RootFilesystem) -> None:
    """Run a daemon of root whose commands are another user's, with what programs the system has for that."""
    with (root.path / "etc/passwd").open("a") as file:
        file.write("worker:x:1000:1000::/tmp:/bin/sh\n")
    env = {**PLAIN, "TOOLBOX_STATE_DIR": "/tmp/state-other"}
    with root.daemon("serve", "--port", "0", "--user", "worker", user="0:0", env=env) as process:
        port = line(process, "Starting toolbox server on port ")
        assert execute(port, "id -u; id -g; echo $HOME") == "1000\n1000\n/tmp\n"
        assert interpret(port, "import os; os.getuid(), os.environ['HOME']").value() == "(1000, '/tmp')"


def execute(port: str, command: str) -> str:
    """Run a command, which must succeed, and return its output."""
    body = json.dumps({"command": command}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/process/execute", body, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert answer["exitCode"] == 0, answer
    return str(answer["result"])


def create_context(port: str) -> str:
    """Make a context of the interpreter and return its id."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{CONTEXT}", b"{}", method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(json.load(response)["id"])


def interpret(port: str, code: str, context: str | None = None) -> Ran:
    """Run code in the interpreter, which must complete, and return what it sends."""

    async def ask() -> Ran:
        async with aiohttp.ClientSession() as http, http.ws_connect(f"http://127.0.0.1:{port}{EXECUTE}") as socket:
            await socket.send_json({"code": code, "contextId": context or "default"})
            return await read(socket, Ran())

    ran = asyncio.run(ask())
    assert (ran.controls, ran.of("error"), ran.text("stderr")) == (["completed"], [], ""), ran
    return ran


def foreign_libraries(root: RootFilesystem, pid: int) -> set[str]:
    """Return what is in a process of ours from the system around it, data excepted."""
    return {path for path in mapped_files(pid) if not path.startswith(f"{root.bundle}/") and ".so" in path}


def mapped_files(pid: int) -> set[str]:
    """Return the files that a process has in its memory, as seen from inside its root."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    outside = str(Path(f"/proc/{pid}/root").readlink())
    columns = [each.split(maxsplit=5) for each in lines]
    return {column[5].removeprefix(outside) for column in columns if len(column) == 6 and column[5][0] == "/"}
