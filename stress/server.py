"""The control plane under load, as a process, and what its processes use."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.client import Client

_STOP_SECONDS = 60


class Server:
    """A running `toolboxd up`, with everything it keeps below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._log = (home / "log").open("wb")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))}
        # The `python3` of the sandboxes is ours: it has ipykernel.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        mine = {"HOME": str(home), "PATH": path, "TOOLBOX_SHELL": "/bin/bash", "TOOLBOX_DESKTOP": "none"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "toolbox", "up", "--port", "0", "--state-dir", str(home / "state")],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=kept | mine,
            cwd=home,
            text=True,
        )
        assert self._process.stdout is not None
        exports = [self._process.stdout.readline().strip().partition("=")[2] for _ in range(2)]
        if not all(exports):
            raise RuntimeError(f"toolboxd did not start: {(home / 'log').read_text()}")
        self.api_url, self.api_key = exports
        self.origin = self.api_url.removesuffix("/api")
        self.client_environ = kept | {"DAYTONA_API_URL": self.api_url, "DAYTONA_API_KEY": self.api_key}

    def client(self, sandbox: str = "") -> Client:
        """Return a client of the API, or of the toolbox of a sandbox."""
        return Client(f"{self.origin}/toolbox/{sandbox}" if sandbox else self.origin, self.api_key)

    def processes(self) -> dict[int, tuple[str, ...]]:
        """Return the command line of each process that belongs to the server, by pid; a zombie has none."""
        found = {self._process.pid: _command(self._process.pid)}
        parents = {int(each): _parent(int(each)) for each in os.listdir("/proc") if each.isdigit()}
        mark = os.fsencode(self.home)
        for pid in parents:
            above = pid
            while above > 1 and above not in found:
                above = parents.get(above, 0)
            if above in found or mark in _environ(pid):
                found[pid] = _command(pid)
        return found

    def toolboxds(self) -> dict[str, int]:
        """Return the pids of the control plane ("up") and of each sandbox's daemon, by the sandbox's id."""
        found = {"up": self._process.pid}
        for pid, command in self.processes().items():
            if pid != self._process.pid and "toolbox" in command and "serve" in command:
                variables = dict(each.partition(b"=")[::2] for each in _environ(pid).split(b"\0"))
                found[variables.get(b"DAYTONA_SANDBOX_ID", b"").decode() or str(pid)] = pid
        return found

    def memory(self) -> dict[str, int]:
        """Return the memory that each toolboxd has for itself, in bytes."""
        return {name: _own_memory(pid) for name, pid in self.toolboxds().items()}

    def descriptors(self) -> dict[str, int]:
        """Return how many descriptors each toolboxd has open."""
        return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in self.toolboxds().items()}

    def programs(self) -> Counter[str]:
        """Return how many of each program run for the server, zombies among them as "zombie"."""
        return Counter(Path(command[0]).name if command else "zombie" for command in self.processes().values())

    def stop(self) -> list[str]:
        """Stop it and return what was wrong with its end."""
        self._process.send_signal(signal.SIGTERM)
        wrong = []
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code != 0:
            wrong.append(f"toolboxd ended with {code}: {(self.home / 'log').read_text()[-2000:]}")
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        left = {pid: command for pid, command in self.processes().items() if pid != self._process.pid}
        if left:
            wrong.append(f"processes left behind: {left}")
        return wrong


def until(what: str, seconds: float, holds: Any) -> bool:
    """Wait until `holds()`, at most `seconds`, and return whether it came so far; `what` is for the log."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            print(f"   not within {seconds} s: {what}", flush=True)
            return False
        time.sleep(0.1)
    return True


def _command(pid: int) -> tuple[str, ...]:
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")[:-1])
    except OSError:
        return ()


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _own_memory(pid: int) -> int:
    """Return what a process does not share: the share of what it does depends on who else is there."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
