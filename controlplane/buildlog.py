"""What a build prints, in a file, bounded; read while it grows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from toolbox.lifetime import TaskSet

MOST_BYTES = 16 * 1024 * 1024
_READ_BYTES = 64 * 1024
_CUT = b"\n[the log is longer than is kept: the rest is left out]\n"


class BuildLog:
    """The log of a build under way. Entered as a context: left, it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tasks = TaskSet()
        self._waiting: list[bytes] = []
        self._writing = asyncio.Lock()
        self._taken = 0
        self._written = 0
        self._complete = False
        self._news: set[asyncio.Event] = set()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._path.write_bytes, b"")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._write()
        await self._tasks.close()
        self.finish()

    def finish(self) -> None:
        """Say that nothing comes any more: readers stop when they have read everything."""
        self._complete = True
        self._tell()

    def append(self, data: bytes) -> None:
        """Add what the build printed; what is over the bound is left out."""
        if self._taken >= MOST_BYTES or not data:
            return
        self._taken += len(data)
        if self._taken >= MOST_BYTES:
            data = data[: len(data) - (self._taken - MOST_BYTES)] + _CUT
        self._waiting.append(data)
        if len(self._waiting) == 1:
            self._tasks.start(self._write(), "build log")

    async def _write(self) -> None:
        async with self._writing:
            if self._waiting:
                data, self._waiting = b"".join(self._waiting), []
                try:
                    await asyncio.to_thread(_append, self._path, data)
                except OSError:
                    self._taken = MOST_BYTES  # a full disk costs the log, not the build
                else:
                    self._written += len(data)
                self._tell()

    def _tell(self) -> None:
        for event in self._news:
            event.set()

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield everything from the beginning, and what is still to come until the log is complete."""
        news = asyncio.Event()
        self._news.add(news)
        read = 0
        try:
            while True:
                news.clear()
                complete, written = self._complete, self._written
                while read < written:
                    data = await asyncio.to_thread(_read_at, self._path, read, min(_READ_BYTES, written - read))
                    if not data:
                        return  # removed meanwhile
                    read += len(data)
                    yield data
                if complete and written == self._written:
                    return
                if read == self._written and not self._complete:
                    await news.wait()
        finally:
            self._news.discard(news)


async def read_log(path: Path) -> AsyncIterator[bytes]:
    """Yield what is in a log so far, nothing where there is none."""
    read = 0
    while data := await asyncio.to_thread(_read_at, path, read, _READ_BYTES):
        read += len(data)
        yield data


def _read_at(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb", 0) as file:
            file.seek(offset)
            return file.read(size)
    except FileNotFoundError:
        return b""


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
