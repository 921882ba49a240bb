"""Processes of a sandbox that are not our children: found by a variable in their environment, ended by pidfd."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Self

from toolbox.children import tree

_ROUNDS = 20
_CONFIRM_SECONDS = 2.0


class Handle:
    """A process that need not be a child of ours, held by pidfd so that its pid cannot mean another one."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._ended)

    @classmethod
    def open(cls, stat: tree.Stat) -> Self | None:
        """Return a handle on the process, or None when it has ended."""
        try:
            pidfd = os.pidfd_open(stat.pid)
        except OSError:
            return None
        # The pid may have been given to another process before it was opened: the start time tells.
        again = tree.read_stat(stat.pid)
        if again is None or again.start_ticks != stat.start_ticks or again.state in "ZX":
            os.close(pidfd)
            return None
        return cls(stat.pid, pidfd)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        if not self._gone.done():
            self._gone.set_result(None)

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    async def gone(self, seconds: float | None = None) -> bool:
        """Wait until the process has ended, at most `seconds`; tell whether it has."""
        done, _ = await asyncio.wait([self._gone], timeout=seconds)
        return bool(done)

    def close(self) -> None:
        """Let go of the process."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            self._gone.cancel()
            os.close(self._pidfd)
            self._pidfd = -1


async def end_marked(variable: str) -> None:
    """SIGKILL every process that has `variable` (`NAME=value`) in its environment, until none is left."""
    for _ in range(_ROUNDS):
        # More than one round: a process may fork between being found and being killed.
        found = await asyncio.to_thread(_marked, variable)
        handles = [handle for stat in found if (handle := Handle.open(stat)) is not None]
        if not handles:
            return
        for handle in handles:
            handle.signal(signal.SIGKILL)
        await asyncio.gather(*(handle.gone(_CONFIRM_SECONDS) for handle in handles))
        for handle in handles:
            handle.close()


def _marked(variable: str) -> list[tree.Stat]:
    needle = b"\0" + variable.encode() + b"\0"
    own = os.getpid()
    found = []
    for stat in tree.all_processes():
        if stat.state in "ZX" or stat.pid == own:
            continue
        try:
            environment = Path(f"/proc/{stat.pid}/environ").read_bytes()
        except OSError:
            continue
        if needle in b"\0" + environment + b"\0":
            found.append(stat)
    return found
