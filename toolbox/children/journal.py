"""What a command printed: stdout and stderr apart, in the order they were read, bounded, readable again at any time.

A journal is a row of blocks. The newest is in memory, the others on disk, all journals of a daemon in one nameless
file. Offsets count the bytes printed (of both streams together) and never change, also when old blocks are dropped.
"""

import asyncio
import bisect
import contextlib
import ctypes
import itertools
import logging
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, Self

from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

STDOUT = 1
STDERR = 2
BLOCK_BYTES = 64 * 1024
_HEADER = 5
_MOST_WAITING = 4
"""Blocks that may wait for the disk before reading from the command pauses."""
_PUNCH_HOLE = 0x01 | 0x02


class Record(NamedTuple):
    """Bytes of one stream that were read at once (or the rest of them)."""

    offset: int
    stream: int
    data: bytes


class _Block:
    """Framed records: stream (1 byte), length (4 bytes), bytes. In memory, or in a slot of the file."""

    __slots__ = ("end", "framed", "length", "slot", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.framed: bytearray | None = bytearray()
        self.length = 0
        self.slot = -1


class JournalStore:
    """The disk space of all journals: at most `limit` bytes, taken from the oldest ended journals when it is full."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._slots = limit // BLOCK_BYTES
        self._used = 0
        self._free: list[int] = []
        self._freed: list[int] = []
        self._releasing = asyncio.Lock()
        self._file = -1
        self._ended: dict[Journal, None] = {}
        self.tasks = TaskSet()

    async def __aenter__(self) -> Self:
        self._file = await asyncio.to_thread(self._open)
        return self

    def _open(self) -> int:
        with tempfile.TemporaryFile(dir=self._directory) as file:
            return os.dup(file.fileno())

    async def __aexit__(self, *_: object) -> None:
        await self.tasks.close()
        os.close(self._file)
        self._file = -1

    async def take(self) -> int:
        """Return a free slot, -1 if there is none and nothing old to drop."""
        while not self._free and self._used >= self._slots:
            await self._release()
            if not self._free:
                if not self._ended:
                    break
                next(iter(self._ended)).drop_all()
        if self._free:
            return self._free.pop()
        if self._used >= self._slots:
            return -1
        self._used += 1
        return self._used - 1

    def give_back(self, slot: int) -> None:
        """Free a slot and its disk space."""
        self._freed.append(slot)
        if len(self._freed) == 1 and self._file >= 0:
            self.tasks.start(self._release(), "free journal space")

    async def _release(self) -> None:
        async with self._releasing:
            slots, self._freed = self._freed, []
            if slots:
                await asyncio.to_thread(self._punch, slots)
                self._free += slots

    def _punch(self, slots: list[int]) -> None:
        # Without fallocate (another C library, another file system) the space stays taken until the slot is used again.
        with contextlib.suppress(AttributeError):
            fallocate = ctypes.CDLL(None).fallocate
            for slot in slots:
                fallocate(self._file, _PUNCH_HOLE, ctypes.c_long(slot * BLOCK_BYTES), ctypes.c_long(BLOCK_BYTES))

    def write(self, slot: int, framed: bytes | bytearray) -> None:
        """Write a slot (blocks; for threads). Raises `OSError`."""
        view = memoryview(framed)
        place = slot * BLOCK_BYTES
        while view:
            written = os.pwrite(self._file, view, place)
            place += written
            view = view[written:]

    def read(self, slot: int, length: int) -> bytes:
        """Read a slot (blocks; for threads). Raises `OSError`."""
        return os.pread(self._file, length, slot * BLOCK_BYTES)

    def may_drop(self, journal: "Journal") -> None:
        """Note that `journal` has ended: its space is the next to be taken when there is none."""
        self._ended[journal] = None

    def forget(self, journal: "Journal") -> None:
        """`journal` has dropped everything by itself."""
        self._ended.pop(journal, None)


class Journal:
    """The output of one command, of which the last `limit` bytes (about) are kept."""

    # One for each command of each session: lists, since an empty deque takes 600 bytes.
    __slots__ = (
        *("_abandoned", "_blocks", "_most_blocks", "_on_room", "_spilling", "_store", "_waiting", "_wakers"),
        "ended",
    )

    def __init__(self, store: JournalStore, limit: int) -> None:
        self.ended = False
        """The command is over: readers that have read everything stop. A process left behind may still append."""
        self._abandoned = False
        self._store = store
        self._most_blocks = max(2, limit // BLOCK_BYTES)
        self._blocks = [_Block(0)]
        self._waiting: list[_Block] = []
        self._spilling = False
        self._wakers: list[asyncio.Future[None]] = []
        self._on_room: list[asyncio.Future[None]] = []

    @property
    def start(self) -> int:
        """Offset of the oldest byte kept; what came before was dropped."""
        return self._blocks[0].start

    @property
    def end(self) -> int:
        """Offset after the newest byte: how much was printed in all."""
        return self._blocks[-1].end

    @property
    def full(self) -> bool:
        """Tell whether the disk is behind: the one who appends should wait for `room`."""
        return len(self._waiting) >= _MOST_WAITING

    async def room(self) -> None:
        """Return when it is no longer `full`."""
        while self.full:
            future = asyncio.get_running_loop().create_future()
            self._on_room.append(future)
            await future

    def append(self, stream: int, data: bytes) -> None:
        """Add what was read from one stream."""
        if self._abandoned:
            return
        view = memoryview(data)
        while view:
            block = self._blocks[-1]
            assert block.framed is not None  # noqa: S101 -- the newest block is in memory
            room = BLOCK_BYTES - _HEADER - len(block.framed)
            if room <= 0:
                self._seal()
                continue
            part = view[:room]
            block.framed += bytes((stream,)) + len(part).to_bytes(4) + part
            block.end += len(part)
            view = view[len(part) :]
        self._wake()

    def finish(self) -> None:
        """Say that the command is over."""
        self.ended = True
        if self._blocks[-1].end > self._blocks[-1].start:
            self._seal()
        self._store.may_drop(self)
        self._wake()

    def drop_all(self) -> None:
        """Forget everything that was printed; the offsets stay."""
        self._store.forget(self)
        while len(self._blocks) > 1:
            self._drop_oldest()
        if self._blocks[0].end > self._blocks[0].start:
            self._blocks.append(_Block(self.end))
            self._drop_oldest()

    def abandon(self) -> None:
        """Forget everything that was printed, and from now on what a process left behind still prints."""
        self._abandoned = True
        self.drop_all()

    def _seal(self) -> None:
        self._waiting.append(self._blocks[-1])
        self._blocks.append(_Block(self.end))
        while len(self._blocks) > self._most_blocks:
            self._drop_oldest()
        if not self._spilling:
            self._spilling = True
            self._store.tasks.start(self._spill(), "journal")

    def _drop_oldest(self) -> None:
        block = self._blocks.pop(0)
        if block.slot >= 0:
            self._store.give_back(block.slot)
        block.slot, block.framed = -1, None

    async def _spill(self) -> None:
        """Move the waiting blocks to disk, one after the other."""
        try:
            while self._waiting:
                block = self._waiting[0]
                if block.framed is not None:
                    await self._spill_one(block, block.framed)
                self._waiting.pop(0)
                if not self.full:
                    self._let_append()
        finally:
            self._spilling = False
            self._let_append()

    async def _spill_one(self, block: _Block, framed: bytearray) -> None:
        slot = await self._store.take()
        if slot >= 0:
            try:
                await asyncio.to_thread(self._store.write, slot, framed)
            except OSError as error:
                log.warning("output cannot be kept on disk: %s", error)
                self._store.give_back(slot)
                slot = -1
            else:
                if block.framed is None:  # dropped meanwhile
                    self._store.give_back(slot)
                    return
        block.length = len(framed) if slot >= 0 else 0
        block.slot, block.framed = slot, None

    def _let_append(self) -> None:
        for future in self._on_room:
            if not future.done():
                future.set_result(None)
        self._on_room.clear()

    def _wake(self) -> None:
        for future in self._wakers:
            if not future.done():
                future.set_result(None)
        self._wakers.clear()

    async def records(self, offset: int = 0, until: int | None = None) -> AsyncIterator[Record]:
        """Yield what was printed from `offset` on, up to `until`; without it also what is still to come.

        What was dropped is skipped: the next record's offset tells. A slow reader costs nobody anything.
        """
        block: _Block | None = None
        at = 0
        while until is None or offset < until:
            found = self._block_after(offset)
            if found is None:
                if self.ended or until is not None:
                    return
                await self._more()
                continue
            if found is not block:
                block, at, position = found, 0, found.start
            framed = await self._frames(block)
            while framed is not None and at < len(framed):
                stream, size = framed[at], int.from_bytes(framed[at + 1 : at + _HEADER])
                first = at + _HEADER + max(0, offset - position)
                last = at + _HEADER + (size if until is None else min(size, until - position))
                at += _HEADER + size
                position += size
                if first < last:
                    yield Record(position - size + first - (at - size), stream, bytes(framed[first:last]))
                offset = max(offset, position)

    def _block_after(self, offset: int) -> _Block | None:
        """Return the first block that is kept and has bytes after `offset`."""
        index = bisect.bisect_right(self._blocks, offset, key=lambda block: block.end)
        for block in itertools.islice(self._blocks, index, None):
            if (block.framed is not None or block.slot >= 0) and block.end > max(offset, block.start):
                return block
        return None

    async def _frames(self, block: _Block) -> bytes | bytearray | None:
        """Return the block's frames (those of the newest block go on growing), None if it is gone."""
        if block.framed is not None:
            return block.framed
        slot = block.slot
        framed = await asyncio.to_thread(self._store.read, slot, block.length) if slot >= 0 else None
        # It may have been dropped, and its place given to another, while it was read.
        return framed if block.slot == slot else None

    async def _more(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._wakers.append(future)
        try:
            await future
        finally:
            with contextlib.suppress(ValueError):  # as a rule it has been woken
                self._wakers.remove(future)
