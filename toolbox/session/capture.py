"""Reads one output of a command into its journal, from the event loop."""

import array
import asyncio
import fcntl
import os
import termios

from toolbox.children.journal import Journal
from toolbox.lifetime import TaskSet

_READ_BYTES = 64 * 1024


class Capture:
    """A descriptor whose bytes become records of one stream.

    While the journal's disk is behind, reading pauses: the writer waits and nothing is lost. It goes on reading after
    the command has ended, for processes left behind, until the last writer closes.
    """

    def __init__(self, descriptor: int, stream: int, journal: Journal, tasks: TaskSet) -> None:
        self._descriptor = descriptor
        self._stream = stream
        self._journal = journal
        self._tasks = tasks
        self._paused: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._journal.append(self._stream, data)
        if self._journal.full:
            self._loop.remove_reader(self._descriptor)
            self._paused = self._tasks.start(self._resume(), "output waits for the disk")

    async def _resume(self) -> None:
        await self._journal.room()
        self._paused = None
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._on_readable)

    async def drain(self) -> None:
        """Read all that has been written by now."""
        if self._descriptor < 0:
            return
        left = array.array("i", [0])
        fcntl.ioctl(self._descriptor, termios.FIONREAD, left)
        goal = self._journal.end + left[0]
        while self._descriptor >= 0 and self._journal.end < goal:
            if self._paused is not None:
                await asyncio.wait([self._paused])
            if self._descriptor >= 0:
                self._on_readable()

    @property
    def closed(self) -> bool:
        """Tell whether the last writer has closed, or we have."""
        return self._descriptor < 0

    def close(self) -> None:
        """Stop reading."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
