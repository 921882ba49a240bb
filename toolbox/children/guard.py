"""A process that watches over a daemon: when that is killed, it ends what the daemon has started.

It waits at a pipe whose other end only the daemon has, so that it learns of every end. Until then it is a shell (less
than 1 MB); then it becomes a Python with the standard library alone, which finds the processes by their marker. A
parent-death signal would end the daemon's own children only, and not those that have changed their user.
"""

import asyncio
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from toolbox.children import tree
from toolbox.children.ending import signal_each

log = logging.getLogger(__name__)

_PACKAGES = Path(__file__).parent.parent.parent
_PROGRAM = """
import sys
sys.stdin.read()
sys.path.insert(0, sys.argv[1])
from toolbox.children.guard import end_all
end_all(sys.argv[2])
"""
_WAIT = "trap '' HUP INT TERM; read -r _; exec \"$@\""
_OWN_PREFIX = "TOOLBOX_"
"""Of the daemon's own variables, some of them secret: the guard needs none."""
_GRACE_SECONDS = 2.0
_CONFIRM_SECONDS = 2.0
_KILL_ROUNDS = 20


class Guard:
    """The guard of this process, for children whose marker begins with `marker`."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._process: subprocess.Popen[bytes] | None = None
        self._alarm = -1

    @property
    def pid(self) -> int | None:
        """The process id, None before it was started."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it, if it was not yet; without it children live on, and a warning says so. Blocks for a spawn."""
        if self._alarm >= 0:
            return
        read_end, self._alarm = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                self._command(),
                cwd="/",
                env={name: value for name, value in os.environ.items() if not name.startswith(_OWN_PREFIX)},
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            log.warning("what is started lives on if this daemon is killed: no guard: %s", error)
        finally:
            os.close(read_end)

    def _command(self) -> list[str]:
        program = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_PACKAGES), self._marker]
        shell = shutil.which("sh")
        return [shell, "-c", _WAIT, "toolboxd-guard", *program] if shell is not None else program

    async def end(self) -> None:
        """End it: there is nothing left to watch over."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None
        if self._alarm >= 0:
            os.close(self._alarm)
            self._alarm = -1


def end_all(marker: str) -> None:
    """End every process whose marker begins with `marker`, as a daemon that stops does. Blocks."""
    _wait(signal_each(tree.marked(marker), signal.SIGTERM), _GRACE_SECONDS)
    for _ in range(_KILL_ROUNDS):
        # More than one round: a process may fork between being found and being killed.
        watched = signal_each(tree.marked(marker), signal.SIGKILL)
        if not watched:
            return
        _wait(watched, _CONFIRM_SECONDS)


def _wait(pidfds: list[int], seconds: float) -> None:
    """Wait until all processes have ended, at most `seconds`; closes the descriptors."""
    deadline = time.monotonic() + seconds
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(pidfd)
