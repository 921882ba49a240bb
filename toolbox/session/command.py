"""One command of a session: its text, its output, how it stands."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from typing import Literal

from toolbox.children.journal import STDOUT, Journal
from toolbox.children.process import Exit
from toolbox.errors import Conflict, Gone
from toolbox.session.models import CommandInfo

_MOST_PENDING_INPUT = 1024 * 1024


class Command:
    """Queued, then running, then exited. Whoever waits for it uses `wait`."""

    # A session keeps thousands of them.
    __slots__ = (
        *("_done", "_echo", "_input", "_loop", "_observed", "_pending"),
        *("ended_at", "exit", "id", "journal", "keeps_input", "started_at", "text"),
    )

    def __init__(
        self,
        text: str,
        journal: Journal,
        *,
        keeps_input: bool,
        echo: bool,
        identity: str | None = None,
        observed: Callable[[Exit], None] | None = None,
    ) -> None:
        self.id = identity or str(uuid.uuid4())
        self.text = text
        self.journal = journal
        self.keeps_input = keeps_input
        self.exit: Exit | None = None
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self._echo = echo
        self._observed = observed
        self._input = -1
        self._pending = bytearray()
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] | None = None
        """For those who wait."""

    @property
    def state(self) -> Literal["queued", "running", "exited"]:
        """How it stands."""
        if self.exit is not None:
            return "exited"
        return "running" if self.started_at is not None else "queued"

    @property
    def exit_code(self) -> int | None:
        """The exit code, 128 + n after signal n, -1 if it was never run; None while it runs."""
        if self.exit is None:
            return None
        return -1 if self.exit.code is None and self.exit.signal is None else self.exit.shell_code

    @property
    def info(self) -> CommandInfo:
        """What the API tells about it."""
        return CommandInfo.of(self)

    def begin(self) -> None:
        """The shell is at it now."""
        self.started_at = time.time()

    def finish(self, end: Exit) -> None:
        """It has ended, and all its output is in the journal."""
        self.exit = end
        self.ended_at = time.time()
        self.close_input()
        self.journal.finish()
        if self._done is not None:
            self._done.set_result(None)
            self._done = None
        if self._observed is not None:
            self._observed(end)

    async def wait(self) -> None:
        """Return once it has ended."""
        if self.exit is None:
            if self._done is None:
                self._done = self._loop.create_future()
            await asyncio.shield(self._done)

    def open_input(self, descriptor: int) -> None:
        """Take the write end of its standard input (non-blocking)."""
        self._input = descriptor
        self._flush()

    def write(self, data: bytes) -> None:
        """Send `data` to its standard input. Raises `Gone` when it has ended, `Conflict` when it reads too slowly."""
        if self.exit is not None:
            raise Gone(f"command has ended with exit code {self.exit_code}", code="COMMAND_ALREADY_COMPLETED")
        if not self.keeps_input:
            raise Conflict("a command that was not started asynchronously has no input")
        if len(self._pending) + len(data) > _MOST_PENDING_INPUT:
            raise Conflict("the command does not read its input")
        if self._echo:
            self.journal.append(STDOUT, data)
        self._pending += data
        self._flush()

    def _flush(self) -> None:
        if self._input < 0:
            return
        self._loop.remove_writer(self._input)
        try:
            while self._pending:
                written = os.write(self._input, self._pending[:65536])
                del self._pending[:written]
        except BlockingIOError:
            self._loop.add_writer(self._input, self._flush)

    def close_input(self) -> None:
        """Close its standard input."""
        if self._input >= 0:
            self._loop.remove_writer(self._input)
            os.close(self._input)
            self._input = -1
