"""One text replaced by another in many files: byte for byte, each file changed whole or not at all."""

import asyncio
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from toolbox import paths
from toolbox.errors import InvalidPath, ToolboxError, from_os_error
from toolbox.files.atomic import Replacement
from toolbox.files.models import ReplaceResult
from toolbox.files.threads import FileThreads

_CHUNK = 1024 * 1024
_JOINED_BYTES = 8 * 1024 * 1024
_WORKERS = 4
_AT_ONCE = 16
"""Files per visit to a thread: a client that goes away stops the work after so many."""

Work = Sequence[tuple[int, str]]


async def replace(
    threads: FileThreads, requested: Sequence[tuple[str, str | ToolboxError]], old: bytes, new: bytes
) -> list[ReplaceResult]:
    """Replace `old` in files and tell for each, in order, how that went.

    `requested` holds each file's name as the client wrote it, and its path, or why it has none.
    """
    results: dict[int, ReplaceResult] = {}
    by_path: dict[str, list[tuple[int, str]]] = {}
    for number, (name, path) in enumerate(requested):
        if isinstance(path, ToolboxError):
            results[number] = ReplaceResult(file=name, success=False, error=path.message)
        else:
            by_path.setdefault(path, []).append((number, path))
    # The same file twice must not be worked on by two threads.
    waiting = _portions([each for group in by_path.values() for each in group])

    async def work() -> None:
        for portion in waiting:
            for number, error in await threads.run(_replace_each, portion, old, new):
                results[number] = ReplaceResult(file=requested[number][0], success=error is None, error=error)

    async with asyncio.TaskGroup() as group:
        for _ in range(_WORKERS):
            group.create_task(work())
    return [results[number] for number in range(len(requested))]


def _portions(work: Work) -> Iterator[Work]:
    start = 0
    while start < len(work):
        stop = start + _AT_ONCE
        while stop < len(work) and work[stop][1] == work[stop - 1][1]:
            stop += 1
        yield work[start:stop]
        start = stop


def _replace_each(work: Work, old: bytes, new: bytes) -> list[tuple[int, str | None]]:
    return [(number, _error_of(path, old, new)) for number, path in work]


def _error_of(path: str, old: bytes, new: bytes) -> str | None:
    try:
        replace_in_file(path, old, new)
    except ToolboxError as error:
        return error.message
    except OSError as error:
        known = from_os_error(error)
        return known.message if known else error.strerror or "not possible"
    return None


def replace_in_file(path: str, old: bytes, new: bytes) -> bool:
    """Replace `old` in one file, links followed, and tell whether it was there; a file without it is not touched.

    Memory does not grow with the file. Raises `OSError`, also (EBUSY) when the file changes meanwhile, `InvalidPath`.
    """
    source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        before = os.fstat(source)
        if stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        if not stat.S_ISREG(before.st_mode):
            raise InvalidPath(f"not a regular file: {paths.lossy(path)}")
        pieces = _pieces(source, before.st_size, old, new)
        if pieces is None:
            return False
        replacement = Replacement(path)
        try:
            for piece in pieces:
                replacement.write(piece)
            _refuse_changed(before, source, path)
            replacement.commit()
        finally:
            replacement.discard()
        return True
    finally:
        os.close(source)


def _pieces(source: int, size: int, old: bytes, new: bytes) -> Iterable[Sequence[bytes]] | None:
    """Return the new content, None if it is the old one."""
    if size < _CHUNK:
        content = os.pread(source, _CHUNK, 0)
        times = content.count(old)
        if times == 0:
            return None
        if len(new) * times <= _JOINED_BYTES:
            return [[content.replace(old, new)]]
    elif not _contains(source, old):
        return None
    return _replaced(source, old, new)


def _chunks(source: int, size: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(source, size, offset):
        yield chunk
        offset += len(chunk)


def _contains(source: int, old: bytes) -> bool:
    overlap = len(old) - 1
    tail = b""
    for chunk in _chunks(source, max(_CHUNK, 4 * len(old))):
        if old in chunk or (tail and old in tail + chunk[:overlap]):
            return True
        tail = (tail + chunk)[-overlap:] if overlap else b""
    return False


def _replaced(source: int, old: bytes, new: bytes) -> Iterator[list[bytes]]:
    """Yield the new content, piece by piece. What may be the beginning of a match waits for the next chunk."""
    overlap = len(old) - 1
    tail = b""
    for chunk in _chunks(source, max(_CHUNK, 4 * len(old))):
        *parts, rest = (tail + chunk).split(old)
        tail = rest[-overlap:] if overlap else b""
        parts.append(rest[: len(rest) - len(tail)])
        if len(new) * (len(parts) - 1) <= _JOINED_BYTES:
            yield [new.join(parts)]
            continue
        for part in parts[:-1]:
            yield [part, new]
        yield [parts[-1]]
    yield [tail]


def _refuse_changed(before: os.stat_result, source: int, path: str) -> None:
    """Raise `OSError` if somebody else wrote the file, or another one took its name, since `before`."""
    for after in (os.fstat(source), os.stat(path)):
        if (after.st_ino, after.st_size, after.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise OSError(errno.EBUSY, "the file is being written by somebody else", path)
