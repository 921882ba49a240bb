"""Reaps orphans that were handed to the daemon (it is PID 1 or child subreaper), never an awaited child."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Container, Mapping

from toolbox.children import tree

DELAY = 1.0
"""Seconds from a SIGCHLD to the look for zombies; many exits share one look."""


class Reaper:
    """Waits for zombies nobody waits for.

    A zombie counts as nobody's when it is no child of ours and was already one at the look before: a library that
    starts a process by its own means has had that long to wait for it.
    """

    def __init__(self, awaited: Mapping[int, object]) -> None:
        self._awaited: Container[int] = awaited
        self._seen: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to listen for SIGCHLD."""
        self._loop = asyncio.get_running_loop()
        try:
            self._loop.add_signal_handler(signal.SIGCHLD, self._schedule)
        except (ValueError, RuntimeError):
            # Not the main thread (an embedding test): one look a second does the same.
            self._schedule()

    async def stop(self) -> None:
        """Stop listening, and reap every zombie there is."""
        if self._loop is not None:
            with contextlib.suppress(ValueError, RuntimeError):
                self._loop.remove_signal_handler(signal.SIGCHLD)
        if self._timer is not None:
            self._timer.cancel()
        while self._look():  # twice: the second look reaps what the first saw
            pass

    def _schedule(self) -> None:
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(DELAY, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            again = self._look()
        except OSError:  # no descriptor is left to look with
            again = True
        if again:
            self._schedule()

    def _look(self) -> bool:
        """Reap the zombies seen at the last look too; tell whether another look is due."""
        zombies = {
            pid
            for pid in tree.direct_children()
            if pid not in self._awaited and (stat := tree.read_stat(pid)) is not None and stat.state == "Z"
        }
        for pid in zombies & self._seen:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = zombies - self._seen
        return bool(self._seen)
