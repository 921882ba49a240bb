"""One SSH channel that runs something: a shell or a command, on a terminal or on pipes."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolbox.children.environment import Environment, check_variables
from toolbox.children.process import Child, Children, Exit
from toolbox.children.terminal import Size, Terminal, open_terminal
from toolbox.errors import BadRequest
from toolbox.lifetime import TaskSet

if TYPE_CHECKING:
    from asyncssh import SSHReader, SSHServerChannel, SSHWriter

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
QUIET_SECONDS = 0.1
"""After the exit: how long a pipe that a process left behind holds open must be silent to count as read."""
DISCONNECT_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for a command whose client went away."""
_CANNOT_START = 126
_MOST_CELLS = 10_000


@dataclass(frozen=True, slots=True)
class Host:
    """Where jobs run."""

    children: Children
    environment: Environment


class Job:
    """What one channel runs. A client that goes away hangs up its terminal, and ends its command without one."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._child: Child | None = None
        self._terminal: Terminal | None = None
        self._reading: asyncio.Task[None] | None = None

    async def run(self, stdin: "SSHReader[bytes]", stdout: "SSHWriter[bytes]", stderr: "SSHWriter[bytes]") -> None:
        """Run what the channel asks for and tell the client how it ended."""
        channel: SSHServerChannel[bytes] = stdout.channel  # type: ignore[assignment]
        # What the client does beside writing (it may vanish) must not wait for the program to read.
        async with TaskSet() as tasks:
            gone = tasks.start(channel.wait_closed(), "ssh channel closed")
            try:
                environment = self._variables(channel)
                if channel.get_terminal_type() is not None:
                    end = await self._on_terminal(channel, environment, stdin, stdout, tasks, gone)
                else:
                    end = await self._on_pipes(channel, environment, stdin, stdout, stderr, tasks, gone)
            except Exception as error:  # noqa: BLE001 -- the boundary: every error becomes an exit
                _fail(channel, stderr, error)
                return
            if end is not None:
                _report(channel, end)

    def signal(self, name: str) -> None:
        """Send a signal, named as SSH does, to the command and its group; unknown names do nothing."""
        number = getattr(signal, f"SIG{name}", None)
        if self._child is not None and isinstance(number, signal.Signals):
            self._child.send_signal_to_group(number)

    def resize(self, cols: int, rows: int) -> None:
        """Set the size of the terminal, if there is one."""
        if self._terminal is not None:
            self._terminal.resize(_size(cols, rows))

    def _variables(self, channel: "SSHServerChannel[bytes]") -> dict[str, str]:
        if (subsystem := channel.get_subsystem()) is not None:
            raise BadRequest(f"no such subsystem: {subsystem}")
        wanted = dict(channel.get_environment())
        check_variables(wanted)
        if (term := channel.get_terminal_type()) is not None:
            wanted["TERM"] = term
        if (agent := channel.get_agent_path()) is not None:
            wanted["SSH_AUTH_SOCK"] = agent
        return self._host.environment.child(wanted)

    def _argv(self, channel: "SSHServerChannel[bytes]") -> list[str]:
        shell, command = self._host.environment.shell, channel.get_command()
        if command is None:
            return [shell, "-i", "-l"] if channel.get_terminal_type() is not None else [shell]
        return [shell, "-c", command]

    async def _on_terminal(
        self,
        channel: "SSHServerChannel[bytes]",
        environment: Mapping[str, str],
        stdin: "SSHReader[bytes]",
        stdout: "SSHWriter[bytes]",
        tasks: TaskSet,
        gone: "asyncio.Task[None]",
    ) -> Exit | None:
        """Return how it ended, None when the client went first."""
        cols, rows, *_ = channel.get_terminal_size()
        screen = _Screen()
        self._terminal = terminal = open_terminal(
            self._host.children,
            self._argv(channel),
            cwd=self._host.environment.directory(None),
            env=environment,
            size=_size(cols, rows),
            output=screen,
        )
        self._child = terminal.child
        try:
            tasks.start(_feed(stdin, terminal.write), "ssh terminal input")
            showing = tasks.start(screen.show(stdout, terminal), "ssh terminal output")
            finished = tasks.start(terminal.finish(), "ssh terminal end")
            await asyncio.wait((finished, gone), return_when=asyncio.FIRST_COMPLETED)
            if not finished.done():
                return None
            screen.end()
            await asyncio.wait((showing, gone), return_when=asyncio.FIRST_COMPLETED)
            return finished.result()
        finally:
            terminal.hang_up()

    async def _on_pipes(
        self,
        channel: "SSHServerChannel[bytes]",
        environment: Mapping[str, str],
        stdin: "SSHReader[bytes]",
        stdout: "SSHWriter[bytes]",
        stderr: "SSHWriter[bytes]",
        tasks: TaskSet,
        gone: "asyncio.Task[None]",
    ) -> Exit | None:
        """Return how it ended, None when the client went first."""
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        ours, theirs = (ends[0][1], ends[1][0], ends[2][0]), (ends[0][0], ends[1][1], ends[2][1])
        try:
            self._child = child = self._host.children.spawn(
                self._argv(channel),
                cwd=self._host.environment.directory(None),
                env=environment,
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2],
            )
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        async with _writer(ours[0]) as to_child, _reader(ours[1]) as output, _reader(ours[2]) as errors:
            tasks.start(_feed(stdin, to_child.send, to_child.end), "ssh command input")
            pumps = [
                tasks.start(_pump(tasks, source, target, child.ended), "ssh command output")
                for source, target in ((output, stdout), (errors, stderr))
            ]
            try:
                await asyncio.wait((child.ended, gone), return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    await asyncio.wait((pump, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not child.ended.done():
                    await child.kill_tree(DISCONNECT_GRACE)
            return child.exit if not gone.done() else None


class _Screen:
    """The output of a terminal on its way to the client: as much as fits, then the terminal waits."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(CHUNK))
        self._filled = 0
        self._news = asyncio.Event()
        self._ended = False

    def room(self) -> memoryview:
        return self._buffer[self._filled :]

    def grow(self, count: int) -> None:
        self._filled += count

    def flush(self) -> None:
        self._news.set()

    def end(self) -> None:
        """The terminal has been read to its end."""
        self._ended = True
        self._news.set()

    async def show(self, stdout: "SSHWriter[bytes]", terminal: Terminal) -> None:
        """Send the output as it comes, until its end or the client's."""
        with contextlib.suppress(OSError):
            while self._filled or not self._ended:
                await self._news.wait()
                self._news.clear()
                data, self._filled = bytes(self._buffer[: self._filled]), 0
                terminal.resume()
                stdout.write(data)
                await stdout.drain()
                if self._ended:
                    self._news.set()


class _ChildInput:
    """The standard input of a child."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Write, once the child has read enough of what came before. Raises `OSError` when it reads no more."""
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        """No more will come."""
        self._writer.close()


async def _feed(
    stdin: "SSHReader[bytes]",
    send: Callable[[bytes], "asyncio.Future[None] | object"],
    end: Callable[[], None] | None = None,
) -> None:
    """Pass the client's input on until it ends, or nobody reads it any more."""
    with contextlib.suppress(OSError):
        while data := await stdin.read(CHUNK):
            await send(data)  # type: ignore[misc]
        if end is not None:
            end()
        return
    while await _discard(stdin):
        pass


async def _discard(stdin: "SSHReader[bytes]") -> bool:
    """Take input that nobody wants: unread it would keep the channel from closing."""
    try:
        return bool(await stdin.read(CHUNK))
    except OSError:
        return False


async def _pump(
    tasks: TaskSet, source: asyncio.StreamReader, target: "SSHWriter[bytes]", ended: "asyncio.Future[Exit]"
) -> None:
    """Pass output on until its end; after the child's end, until what it left behind is silent."""
    with contextlib.suppress(OSError):
        while True:
            reading = tasks.start(source.read(CHUNK), "ssh command read")
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await asyncio.wait((reading,), timeout=QUIET_SECONDS)
            if not reading.done():
                reading.cancel()
                return
            if not (data := reading.result()):
                return
            target.write(data)
            await target.drain()


@asynccontextmanager
async def _reader(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    reader = asyncio.StreamReader(limit=CHUNK)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        yield reader
    finally:
        transport.close()


@asynccontextmanager
async def _writer(descriptor: int) -> AsyncIterator[_ChildInput]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(_PipeProtocol, os.fdopen(descriptor, "wb", 0))
    try:
        yield _ChildInput(asyncio.StreamWriter(transport, protocol, None, loop))
    finally:
        if not protocol.lost:  # asyncio fails to abort what has ended
            transport.abort()


class _PipeProtocol(asyncio.streams.FlowControlMixin):
    lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        super().connection_lost(exc)


def _fail(channel: "SSHServerChannel[bytes]", stderr: "SSHWriter[bytes]", error: Exception) -> None:
    """Tell the client that what it wants could not be run."""
    known = isinstance(error, OSError | BadRequest)
    if not known:
        log.error("ssh session failed", exc_info=error)
    reason = getattr(error, "strerror", None) or str(error) if known else "internal error"
    with contextlib.suppress(OSError):
        stderr.write(f"cannot start: {reason}\n".encode())
        channel.exit(_CANNOT_START)


def _report(channel: "SSHServerChannel[bytes]", end: Exit) -> None:
    """Tell the client how it ended, as the kernel said."""
    with contextlib.suppress(OSError):
        if end.signal is not None:
            name = signal.Signals(end.signal).name.removeprefix("SIG") if end.signal in _KNOWN else f"{end.signal}@os"
            channel.exit_with_signal(name, msg=end.cause or "")
        else:
            channel.exit(end.code if end.code is not None else _CANNOT_START)


_KNOWN = frozenset(int(each) for each in signal.Signals)


def _size(cols: int, rows: int) -> Size:
    return Size(min(cols, _MOST_CELLS) or 80, min(rows, _MOST_CELLS) or 24)


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
