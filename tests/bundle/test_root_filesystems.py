"""The bundle in other systems: older and newer glibc, and none; at any path; as root and as somebody without a name."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.bundle.conftest import PLAIN, ROOT, RootFilesystem, line
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
        assert {name: found[name] for name in found.keys() - OF_SHELLS} == {**given, **own, MARKER: found[MARKER]}
        assert execute(port, f"cat /proc/{process.pid}/comm") == "toolboxd\n"
        if root.name == "musl":
            assert execute(port, "linked-with-musl") == "linked with musl\n"
        # Nothing of the system around it, except data, is in the daemon.
        libraries = {
            path for path in mapped_files(process.pid) if not path.startswith(f"{root.bundle}/") and ".so" in path
        }
        assert libraries == set()


def become_another_user(root: RootFilesystem) -> None:
    """Run a daemon of root whose commands are another user's, with what programs the system has for that."""
    with (root.path / "etc/passwd").open("a") as file:
        file.write("worker:x:1000:1000::/tmp:/bin/sh\n")
    env = {**PLAIN, "TOOLBOX_STATE_DIR": "/tmp/state-other"}
    with root.daemon("serve", "--port", "0", "--user", "worker", user="0:0", env=env) as process:
        port = line(process, "Starting toolbox server on port ")
        assert execute(port, "id -u; id -g; echo $HOME") == "1000\n1000\n/tmp\n"


def execute(port: str, command: str) -> str:
    """Run a command, which must succeed, and return its output."""
    body = json.dumps({"command": command}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/process/execute", body, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert answer["exitCode"] == 0, answer
    return str(answer["result"])


def mapped_files(pid: int) -> set[str]:
    """Return the files that a process has in its memory, as seen from inside its root."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    outside = str(Path(f"/proc/{pid}/root").readlink())
    columns = [each.split(maxsplit=5) for each in lines]
    return {column[5].removeprefix(outside) for column in columns if len(column) == 6 and column[5][0] == "/"}
