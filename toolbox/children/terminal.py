"""A child on a pseudo-terminal: a session leader whose controlling terminal it is.

Popen cannot set a controlling terminal without `preexec_fn`, which costs the vfork, and ptyprocess forks by itself:
such a child would be outside the spawner's books (no marker, no pidfd, no workload user). So the child is started by
`Children.spawn`, which makes it the leader of a new session, through a launcher of one line: a session leader that
has no terminal gets the first one it opens. `sh` opens the slave as its standard input and becomes the program; the
pid stays the same. (`setsid --ctty` would fork, because the child leads its group already.)
"""

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from toolbox.children.process import Child, Children, Exit

READ_BYTES = 32 * 1024
"""Output taken from the kernel, in pieces of 4 KiB, before anybody is told."""
INPUT_BYTES = 1024 * 1024
"""Input the child has not read yet at which `write` begins to wait."""
QUIET_SECONDS = 0.1
"""After the exit: how long a terminal that a process left behind holds open must be silent to count as read."""
_MOST_QUIETS = 5
_LAUNCHER = 'exec <>"$0" >&0 2>&0 && exec "$@"'
_IUTF8 = 0o40000  # not in the termios module: backspace in the kernel's line editing erases whole characters


class Size(NamedTuple):
    """The size of a terminal in characters."""

    cols: int
    rows: int


class Output(Protocol):
    """Where the output of a terminal goes: bytes are read from the kernel straight into `room`."""

    def room(self) -> memoryview:
        """Return where the next bytes go; empty stops the reading until `Terminal.resume`."""

    def grow(self, count: int) -> None:
        """`count` bytes were put at the start of the room."""

    def flush(self) -> None:
        """No more for the moment: tell whoever waits."""


class Terminal:
    """A running child and its terminal. Made by `open_terminal` only.

    Our own slave descriptor stays open until the child has ended: a program may close all of its (many do so just
    before they exit), and the end of file it would cause is not the end of the child.
    """

    def __init__(self, child: Child, master: int, slave: int, output: Output) -> None:
        self.child = child
        self.paused = False
        self._master = master
        self._slave = slave
        self._output = output
        self._received = 0
        self._loop = asyncio.get_running_loop()
        self._eof: asyncio.Future[None] = self._loop.create_future()
        self._input: deque[memoryview] = deque()
        self._input_bytes = 0
        self._input_room = asyncio.Event()
        self._input_room.set()
        os.set_blocking(master, False)
        self._loop.add_reader(master, self._on_readable)

    def _on_readable(self) -> None:
        taken = 0
        while taken < READ_BYTES:
            room = self._output.room()
            if not room:
                self.paused = True
                self._loop.remove_reader(self._master)
                break
            try:
                count = os.readv(self._master, (room,))
            except BlockingIOError:
                break
            except OSError:  # EIO: nobody holds the terminal any more, and all that was written has been read
                count = 0
            if count == 0:
                self.hang_up()
                break
            self._output.grow(count)
            taken += count
        self._received += taken
        if taken:
            self._output.flush()

    def resume(self) -> None:
        """Read on: the output has room again."""
        if self.paused:
            self.paused = False
            if self._master >= 0:
                self._loop.add_reader(self._master, self._on_readable)

    def resize(self, size: Size) -> None:
        """Set the size; the kernel sends SIGWINCH to the foreground."""
        if self._master >= 0:
            _set_size(self._master, size)

    async def write(self, data: bytes) -> None:
        """Type `data`, in one piece even if others type too; waits while the child leaves too much unread.

        Nothing happens when the terminal has ended.
        """
        await self._input_room.wait()
        if self._master < 0 or not data:
            return
        self._input.append(memoryview(data))
        self._input_bytes += len(data)
        if len(self._input) == 1:
            self._on_writable()
            if self._input and self._master >= 0:
                self._loop.add_writer(self._master, self._on_writable)
        if self._input_bytes >= INPUT_BYTES:
            self._input_room.clear()

    def _on_writable(self) -> None:
        try:
            while self._input:
                count = os.write(self._master, self._input[0])
                self._input_bytes -= count
                self._input[0] = self._input[0][count:]
                if not self._input[0]:
                    self._input.popleft()
        except BlockingIOError:
            pass
        except OSError:  # nobody is there to read it
            self._drop_input()
        if self._input_bytes < INPUT_BYTES:
            self._input_room.set()
        if not self._input:
            self._loop.remove_writer(self._master)

    def _drop_input(self) -> None:
        self._input.clear()
        self._input_bytes = 0
        self._input_room.set()

    async def finish(self) -> Exit:
        """Return how the child ended, once it has and all that was written before has been read; hangs up."""
        end = await self.child.wait()
        self._close_slave()
        quiets = 0
        while quiets < _MOST_QUIETS and not self._eof.done():
            before = self._received
            await asyncio.wait([self._eof], timeout=QUIET_SECONDS)
            if not self.paused and self._master >= 0:
                self._on_readable()  # it may have been resumed this very moment
            if self.paused:  # a slow reader: the kernel still holds output
                continue
            if self._received == before:
                break
            quiets += 1
        self.hang_up()
        return end

    def hang_up(self) -> None:
        """Close the master side: the kernel sends SIGHUP to the session, and nothing more is read."""
        self._close_slave()
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            self._loop.remove_writer(self._master)
            os.close(self._master)
            self._master = -1
            self._drop_input()
            self._eof.set_result(None)

    def _close_slave(self) -> None:
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1


def open_terminal(
    children: Children, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], size: Size, output: Output
) -> Terminal:
    """Start `argv` on a new pseudo-terminal of `size`. Raises `OSError` when there is none, or no such `cwd`.

    A program that cannot be run says so on the terminal and exits with 126 or 127, as from a shell.
    """
    master, slave = os.openpty()
    try:
        _set_size(master, size)
        attributes = termios.tcgetattr(slave)
        attributes[0] |= _IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        if children.user is not None:
            os.fchown(slave, children.user.pw_uid, -1)
        launcher = ["/bin/sh", "-c", _LAUNCHER, os.ttyname(slave), *argv]
        child = children.spawn(launcher, cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return Terminal(child, master, slave, output)


def _set_size(descriptor: int, size: Size) -> None:
    with contextlib.suppress(OSError):  # the other side may be gone
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.cols, 0, 0))
