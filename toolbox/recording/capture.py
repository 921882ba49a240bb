"""One recording under way: ffmpeg films, what it prints goes to the recording's file.

The file is written here and not by ffmpeg: it belongs to the right user, a full disk and a limit are known exactly,
and when the daemon is killed ffmpeg has nobody to write to and ends too.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from msgspec import UNSET, structs

from toolbox.children.process import Child, Children
from toolbox.children.spool import OutputPipe, Spool
from toolbox.errors import ToolboxError
from toolbox.recording.directory import Directory, settle
from toolbox.recording.errors import FfmpegNotFound, RecordingFailed
from toolbox.recording.models import Recording, timestamp
from toolbox.threads import Threads

log = logging.getLogger(__name__)

_READ_BYTES = 1024 * 1024
_WORDS_BYTES = 4096
"""How much is kept of what ffmpeg says."""
_REASON_LETTERS = 1000
_SILENCE_SECONDS = 5.0
"""A fragment comes each second. After this long without one the screen is looked for."""
_SILENCES = 6
"""So many in a row are the end."""
STOP_SECONDS = 10.0
"""How long ffmpeg may take to finish a file, before it is killed."""
_EXIT_SECONDS = 2.0
_NICENESS = 5
"""What is filmed comes before the film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a recording ends by itself."""

    seconds: float
    full: Callable[[], bool]
    """Tells that all recordings together are as large as they may be."""
    check_screen: Callable[[], Awaitable[object]]
    """Raises a `ToolboxError` when the screen has gone: ffmpeg does not always notice and films its last picture."""


class Capture:
    """Films until `stop` is called, a limit is reached, or it cannot go on."""

    def __init__(
        self, recording: Recording, children: Children, threads: Threads, directory: Directory, limits: Limits
    ) -> None:
        self.recording = recording
        """What was known when it began; once it has ended, what is known for good."""
        self.size = 0
        self.failure: Exception | None = None
        """Why it did not begin."""
        self.begun = asyncio.Event()
        """Set when the first picture has been taken, or could not be."""
        self._children = children
        self._threads = threads
        self._directory = directory
        self._limits = limits
        self._child: Child | None = None
        self._file = -1
        self._started = 0.0
        self._stopping: str | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._ended = asyncio.Event()

    @property
    def now(self) -> Recording:
        """The recording as it is at this moment."""
        if self.recording.status != "recording":
            return self.recording
        seconds = round(time.time() - self._started, 3)
        return structs.replace(self.recording, size_bytes=self.size, duration_seconds=seconds)

    async def stop(self, reason: str = "", *, patience: float = STOP_SECONDS) -> Recording:
        """End it and return what became of it; ffmpeg is killed after `patience` seconds.

        `reason` is kept: why it ended without being asked to.
        """
        self._end(reason, patience)
        await self._ended.wait()
        return self.recording

    def _end(self, reason: str, patience: float = STOP_SECONDS) -> None:
        if self._stopping is not None:
            return
        self._stopping = reason
        if self._child is not None:
            self._child.send_signal(signal.SIGINT)
            kill = asyncio.get_running_loop().call_later(patience, self._child.send_signal, signal.SIGKILL)
            self._timers.append(kill)

    async def run(self, argv: Sequence[str], environ: Mapping[str, str], spool: Spool) -> None:
        """Film. What goes wrong before the first picture is `failure`, and leaves nothing behind."""
        problem = ""
        try:
            async with AsyncExitStack() as stack:
                problem = await self._film(argv, environ, spool, stack)
        except ToolboxError as error:
            problem = self._fail(error, error.message)
        except OSError as error:
            problem = self._fail(error, f"the recording could not be written: {(error.strerror or str(error)).lower()}")
        finally:
            if not self.begun.is_set() and self.failure is None:
                self.failure = RecordingFailed("the recording did not begin")
            for timer in self._timers:
                timer.cancel()
            try:
                if self._file >= 0:
                    await self._settle(problem)
            finally:
                self.begun.set()
                self._ended.set()

    def _fail(self, error: Exception, problem: str) -> str:
        if not self.begun.is_set():
            self.failure = error
        return problem

    async def _film(self, argv: Sequence[str], environ: Mapping[str, str], spool: Spool, stack: AsyncExitStack) -> str:
        """Film to the end; return why that came, if nobody asked for it."""
        if self._stopping is not None:
            raise RecordingFailed("stopped before it began")
        words = OutputPipe(spool)
        stack.callback(spool.close)
        stack.callback(words.close)
        pictures, child = await self._spawn(argv, environ, words, stack)
        data = await self._next(pictures)
        if data:
            await self._begin()
        while data:
            await self._threads.run(_write, self._file, data)
            self.size += len(data)
            if self._limits.full():
                self._end("recordings are as large as they may be")
            if self._stopping is None:
                await self._limits.check_screen()
            data = await self._next(pictures)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_SECONDS):
                await child.wait()
        if self.begun.is_set() and self._stopping is not None:
            return ""
        await words.finish(_EXIT_SECONDS)
        problem = _why(child, await spool.text())
        if not self.begun.is_set():
            raise RecordingFailed(problem)
        return problem

    async def _spawn(
        self, argv: Sequence[str], environ: Mapping[str, str], words: OutputPipe, stack: AsyncExitStack
    ) -> tuple[asyncio.StreamReader, Child]:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            child = self._children.spawn(
                argv, cwd="/", env=environ, stdout=write_end, stderr=words.write_end, label="recording of the screen"
            )
        except FileNotFoundError:
            os.close(read_end)
            raise FfmpegNotFound from None
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
            words.close_write_end()
        self._child = child
        stack.push_async_callback(self._make_sure, child)
        with contextlib.suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, child.pid, _NICENESS)
        reader = asyncio.StreamReader(_READ_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
        )
        stack.push_async_callback(_close, transport)
        return reader, child

    async def _make_sure(self, child: Child) -> None:
        if child.exit is None:
            await child.kill_tree(grace=0)

    async def _next(self, pictures: asyncio.StreamReader) -> bytes:
        """Return what ffmpeg has to say next, nothing at its end. Raises a `ToolboxError` when there is no screen."""
        for _ in range(_SILENCES):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SILENCE_SECONDS):
                    return await pictures.read(_READ_BYTES)
            if self._stopping is None:
                await self._limits.check_screen()
        raise RecordingFailed(f"no picture for {_SILENCES * _SILENCE_SECONDS:.0f} s")

    async def _begin(self) -> None:
        self._started = time.time()
        self.recording = structs.replace(self.recording, start_time=timestamp(self._started))
        self._file = await self._threads.run(self._directory.create, self.recording)
        long_enough = f"it was {self._limits.seconds:.0f} s long, as long as one may be"
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(self._limits.seconds, self._end, long_enough))
        self.begun.set()

    async def _settle(self, problem: str) -> None:
        """Make the file whole and write down how it ended."""
        ended, reason = time.time(), (problem or self._stopping or "")[:_REASON_LETTERS]
        seconds, self.size = await self._threads.run(_finish, self._file)
        self._file = -1
        self.recording = structs.replace(
            self.recording,
            status="failed" if problem or self._stopping is None else "completed",
            end_time=timestamp(ended),
            duration_seconds=seconds,
            size_bytes=self.size,
            reason=reason or UNSET,
        )
        try:
            await self._threads.run(self._directory.describe, self.recording)
        except OSError as error:
            log.warning("what became of a recording could not be written down: %s", error)
        if problem:
            log.warning("recording failed", extra={"fields": {"id": self.recording.id, "reason": reason}})


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _finish(descriptor: int) -> tuple[float, int]:
    """Settle and close a file; return its duration in seconds and its size in bytes."""
    try:
        return settle(descriptor), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


async def _close(transport: asyncio.BaseTransport) -> None:
    transport.close()
    await asyncio.sleep(0)  # it closes its descriptor in the loop's next round


def _why(child: Child, words: str) -> str:
    """Return why ffmpeg ended, in its own words where it has any."""
    said = words.strip()[-_WORDS_BYTES:]
    exit_ = child.exit
    how = "closed its output" if exit_ is None else exit_.cause or f"exit code {exit_.code}"
    return f"ffmpeg ended: {how}" + (f": {said}" if said else "")
