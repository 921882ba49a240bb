"""Keeps the output of a process: a little in memory, more on disk, in bounded space, without blocking the loop."""

import array
import asyncio
import codecs
import contextlib
import fcntl
import io
import os
import tempfile
import termios
import threading
from collections.abc import AsyncIterator
from pathlib import Path

MEMORY_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024
_PIPE_BYTES = 1024 * 1024


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)  # noqa: S101 -- only decoding uses this handler
    return "\ufffd" * (error.end - error.start), error.end


# The contract: each byte that is not UTF-8 becomes one U+FFFD (Python's own handler merges some).
codecs.register_error("toolbox-replace-bytes", _replace_each_byte)


def text_decoder() -> codecs.IncrementalDecoder:
    """Return a decoder for process output: UTF-8, each bad byte U+FFFD, characters split over chunks kept whole."""
    return codecs.getincrementaldecoder("utf-8")("toolbox-replace-bytes")


class Spool:
    """The bytes of one stream. Of more than `limit` bytes the first and the last half are kept."""

    def __init__(self, directory: Path, limit: int) -> None:
        self.total = 0
        self.failure: OSError | None = None
        """Why later bytes could not be kept (a full disk)."""
        self._directory = directory
        self._limit = limit
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._pending = bytearray()
        self._spilled = 0
        self._file: io.FileIO | None = None
        self._closed = False
        # Held for a few instructions only: a thread may be about to write when the owner closes.
        self._lock = threading.Lock()

    @property
    def cut(self) -> int:
        """How many bytes were not kept."""
        return self.total - min(self._spilled + len(self._pending), self._limit)

    @property
    def full(self) -> bool:
        """Tell whether `spill` is due before more is appended."""
        return len(self._pending) >= MEMORY_BYTES

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self.total - self.cut

    def append(self, data: bytes) -> None:
        """Add bytes, in memory; dropped after a failure to write."""
        self.total += len(data)
        if self.failure is None:
            self._pending += data

    async def spill(self) -> None:
        """Move what is in memory to disk; a full disk becomes `failure`, and what is in memory then stays there."""
        data, self._pending = self._pending, bytearray()
        before = self._spilled
        try:
            await asyncio.to_thread(self._write, data)
        except OSError as error:
            self.failure = error
            self._pending = data[self._spilled - before :][: max(0, self._limit - self._spilled)]

    def _write(self, data: bytearray) -> None:
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                # buffering=0 gives a raw file without a name: nothing is left whatever happens.
                self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
            descriptor = os.dup(self._file.fileno())
        try:
            view = memoryview(data)
            while view:
                place, room = self._next_place()
                written = os.pwrite(descriptor, view[:room], place)
                self._spilled += written
                view = view[written:]
        finally:
            os.close(descriptor)

    def _next_place(self) -> tuple[int, int]:
        if self._spilled < self._head_limit:
            return self._spilled, self._head_limit - self._spilled
        # The second half of the file is a ring that always holds the latest bytes.
        at = (self._spilled - self._head_limit) % self._tail_limit
        return self._head_limit + at, self._tail_limit - at

    async def chunks(self, size: int = _READ_BYTES) -> AsyncIterator[bytes]:
        """Yield what was kept, in order; where `cut` bytes are missing from the middle a chunk ends."""
        if self._file is None and not self.cut:
            yield bytes(self._pending)
            return
        if self._pending and self.failure is None:
            await self.spill()
        for start, length in self._spans():
            for offset in range(start, start + length, size):
                yield await asyncio.to_thread(self._read, min(size, start + length - offset), offset)
        if self._pending:
            yield bytes(self._pending)

    def _spans(self) -> list[tuple[int, int]]:
        head = min(self._spilled, self._head_limit)
        tail = self._spilled - head
        if tail <= self._tail_limit:
            return [(0, head), (head, tail)]
        at = tail % self._tail_limit
        return [(0, head), (head + at, self._tail_limit - at), (head, at)]

    def _read(self, size: int, offset: int) -> bytes:
        if self._file is None:
            return b""
        return os.pread(self._file.fileno(), size, offset)

    async def texts(self) -> AsyncIterator[str]:
        """Yield what was kept as text, piece by piece, a notice in place of what was cut."""
        decoder = text_decoder()
        seen = 0
        notice = f"\n[... {self.cut} bytes cut ...]\n" if self.cut else ""
        async for chunk in self.chunks():
            if notice and seen == self._head_limit:
                yield decoder.decode(b"", final=True) + notice
                decoder, notice = text_decoder(), ""
            seen += len(chunk)
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True) + notice

    async def text(self) -> str:
        """Return all that was kept as text."""
        return "".join([part async for part in self.texts()])

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
        self._pending = bytearray()


class OutputPipe:
    """A pipe whose read end fills a spool from the event loop; `write_end` goes to the child.

    Reading pauses while the spool writes to disk, so a fast writer is slowed and memory stays bounded. After `detach`
    the pipe is still drained, into nothing, so that a process left behind never gets SIGPIPE or blocks.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._loop = asyncio.get_running_loop()
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._detached = False
        self._spilling: asyncio.Future[None] | None = None
        self._loop.add_reader(self._read_end, self._on_readable)

    def close_write_end(self) -> None:
        """Close our copy of the write end: the child has it now (or never got it)."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def _on_readable(self) -> None:
        try:
            data = os.read(self._read_end, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._end()
            return
        if self._detached:
            return
        if self.spool.total == 0 and len(data) >= 65536:  # noqa: PLR2004 -- a full default pipe: a talkative child
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._read_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.spool.append(data)
        if self.spool.full:
            self._loop.remove_reader(self._read_end)
            self._spilling = asyncio.ensure_future(self._spill())

    async def _spill(self) -> None:
        await self.spool.spill()
        self._spilling = None
        if self._read_end >= 0:
            self._loop.add_reader(self._read_end, self._on_readable)

    def _end(self) -> None:
        if self._read_end >= 0:
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1
        if not self._ended.done():
            self._ended.set_result(None)

    async def finish(self, grace: float) -> None:
        """Return once the stream ended, or `grace` seconds passed and all that was written by then has been read.

        To be called when the writer one cares about has ended; others may still hold the pipe.
        """
        await asyncio.wait([self._ended], timeout=grace)
        if self._spilling is not None:
            await self._spilling
        if self._read_end < 0:
            return
        left = array.array("i", [0])
        fcntl.ioctl(self._read_end, termios.FIONREAD, left)
        goal = self.spool.total + left[0]
        while self.spool.total < goal and self._read_end >= 0:
            self._on_readable()
            if self._spilling is not None:
                await self._spilling

    async def detach(self) -> None:
        """Keep no more of the output; return when the last writer has closed the pipe."""
        self._detached = True
        await asyncio.shield(self._ended)

    @property
    def at_end(self) -> bool:
        """Tell whether the last writer has closed the pipe."""
        return self._ended.done()

    def close(self) -> None:
        """Stop reading and close both ends."""
        self.close_write_end()
        self._end()
