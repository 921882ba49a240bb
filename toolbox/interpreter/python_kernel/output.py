"""Everything the kernel's process prints, in the order it was printed, as packets to the daemon.

Python's `sys.stdout` and `sys.stderr` come here directly; what subprocesses, C code and `os.write` print to the
descriptors 1 and 2 comes through two pipes. Before text of Python's is sent the pipes are emptied, and before bytes of
a pipe are sent the text that waits: so each byte comes after all that was printed before it.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from .channel import PACKET, STDERR, STDOUT, Channel

LINES_AT_ONCE = 100
"""Lines sent at once in each `WINDOW_SECONDS`; those of a program that prints more are put together."""
WINDOW_SECONDS = 0.1
TICK_SECONDS = 0.03
"""How long text may wait for more."""
WAITING_BYTES = 8 * 1024
_SLICE = 256 * 1024
_READS = 16


class Output:
    """Collects output and sends it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.lock = threading.RLock()
        self.kind = STDOUT
        self.printed: deque[tuple[bytes, bytes]] = deque()
        """What Python has printed and nobody has taken yet."""
        self.taking = False
        self.waiting = bytearray()
        """Text of Python's that is not sent yet, of the stream `kind`."""
        self.since = 0.0
        """When the first of it was printed."""
        self.window = 0.0
        self.lines = 0
        self.main = threading.main_thread().ident
        self.busy = 0
        self.interrupted = False
        """An interrupt came while the main thread was in here: it is raised at the way out."""
        self.pipes: dict[int, bytes] = {}
        self.look = select.poll()
        self.forked = False
        self.ticking = False
        self.wake_read, self.wake_write = os.pipe()

    def capture(self) -> None:
        """Take over the descriptors 1 and 2."""
        for number, kind in ((1, STDOUT), (2, STDERR)):
            read_end, write_end = os.pipe()
            os.dup2(write_end, number)
            os.close(write_end)
            os.set_blocking(read_end, False)
            self.pipes[read_end] = kind
            self.look.register(read_end, select.POLLIN)
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        os.register_at_fork(before=self.flush, after_in_child=self._in_child)
        threading.Thread(target=self._watch, name="toolbox output", daemon=True).start()

    def write(self, kind: bytes, data: bytes) -> None:
        """Add what the program prints."""
        self.printed.append((kind, data))
        with self._undisturbed() as free:
            if free:
                self._take_printed()
            else:
                self._send_soon()

    def flush(self) -> None:
        """Send all that was printed so far, by whomever."""
        with self._undisturbed() as free:
            if free:
                self._take_printed()
                self._drain()
                self._flush()

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[bool]:
        """Hold the lock, and interrupts of the main thread off.

        Gives False within itself: a signal handler or a `__del__` prints in the midst of a print, which goes on first.
        """
        main = threading.get_ident() == self.main
        if main:
            self.busy += 1
        try:
            with self.lock:
                free = not self.taking
                self.taking = True
                try:
                    yield free
                finally:
                    self.taking = not free
        finally:
            if main:
                self.busy -= 1
        if main and self.interrupted and not self.busy:
            self.interrupted = False
            raise KeyboardInterrupt

    def _take_printed(self) -> None:
        while self.printed:
            kind, data = self.printed.popleft()
            self._drain()
            if kind != self.kind:
                self._flush()
                self.kind = kind
            if not self.waiting:
                self.since = time.monotonic()
            self.waiting += data
            if self.forked or len(self.waiting) >= WAITING_BYTES or (data.endswith(b"\n") and self._may_send_line()):
                self._flush()
            else:
                self._send_soon()

    def _send_soon(self) -> None:
        if not self.ticking:
            self.ticking = True
            with contextlib.suppress(OSError):
                os.write(self.wake_write, b"!")

    def _may_send_line(self) -> bool:
        if self.lines >= LINES_AT_ONCE:
            now = time.monotonic()
            if now - self.window < WINDOW_SECONDS:
                return False
            self.window, self.lines = now, 0
        self.lines += 1
        return True

    def _flush(self) -> None:
        while self.waiting:
            part = bytes(self.waiting[:PACKET])
            self.channel.send(self.kind, part)
            del self.waiting[: len(part)]

    def _drain(self) -> None:
        """Send what is in the pipes."""
        if self.forked:
            return
        for _ in range(_READS):
            ready = self.look.poll(0)
            if not ready:
                return
            for descriptor, _ in ready:
                try:
                    data = os.read(descriptor, PACKET)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:  # the program has closed it
                    self.look.unregister(descriptor)
                    continue
                self._flush()
                self.channel.send(self.pipes[descriptor], data)

    def _in_child(self) -> None:
        """Make a fork send at once: nobody would do it later. The pipes stay the parent's."""
        self.forked = True
        self.lock = threading.RLock()
        self.channel.lock = threading.Lock()
        self.printed.clear()
        self.taking = False
        self.waiting.clear()
        self.main = threading.main_thread().ident
        self.busy = 0

    def _watch(self) -> None:
        """Send what comes through the pipes, and text that has waited; end with the daemon."""
        with contextlib.suppress(ValueError, OSError):
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        look = select.poll()
        for descriptor in (*self.pipes, self.wake_read):
            look.register(descriptor, select.POLLIN)
        daemon = self.channel.socket.fileno()
        look.register(daemon, 0)  # only its end
        while True:
            events = look.poll(TICK_SECONDS * 1000 if self.ticking else None)
            for descriptor, event in events:
                if descriptor == daemon:
                    # Nobody is left to work for. All in our session is ours.
                    os.killpg(0, signal.SIGKILL)
                elif descriptor == self.wake_read:
                    with contextlib.suppress(OSError):
                        os.read(self.wake_read, 4096)
                elif not event & select.POLLIN:
                    look.unregister(descriptor)
            with self._undisturbed():
                self._take_printed()
                self._drain()
                if self.waiting and time.monotonic() - self.since >= TICK_SECONDS:
                    self._flush()
                self.ticking = bool(self.waiting)


class Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr`: text that always goes out as UTF-8, what UTF-8 has not as backslash escapes."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    mode = "w"

    def __init__(self, output: Output, kind: bytes, descriptor: int, name: str) -> None:
        self._output = output
        self._kind = kind
        self._descriptor = descriptor
        self.name = name
        self.buffer = Bytes(self)

    def write(self, text: str) -> int:
        """Print text. Raises `TypeError` for anything else."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if len(text) <= _SLICE:
            self._output.write(self._kind, text.encode("utf-8", "backslashreplace"))
            return len(text)
        for start in range(0, len(text), _SLICE):
            self.write(text[start : start + _SLICE])
        return len(text)

    def write_bytes(self, data: Any) -> int:
        """Print bytes."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _SLICE):
            self._output.write(self._kind, bytes(view[start : start + _SLICE]))
        return len(view)

    def flush(self) -> None:
        """Send what was printed."""
        self._output.flush()

    def fileno(self) -> int:
        """Return the descriptor that subprocesses print to."""
        return self._descriptor

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def reconfigure(self, **_: Any) -> None:
        """Stay as it is."""

    def close(self) -> None:
        """Stay open: the next run prints here too."""


class Bytes(io.BufferedIOBase):
    """The `buffer` of a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.name = stream.name
        self.mode = "wb"

    def write(self, data: Any) -> int:
        """Print bytes."""
        return self._stream.write_bytes(data)

    def flush(self) -> None:
        """Send what was printed."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor that subprocesses print to."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def close(self) -> None:
        """Stay open."""
