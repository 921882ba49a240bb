"""Files on their way out: opened without ever hanging, read with a watch on their stability."""

import errno
import os
import stat
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from toolbox import paths
from toolbox.errors import FileReadFailed, InvalidPath
from toolbox.threads import Threads

IN_ONE_PIECE = 256 * 1024
"""Files up to this size are read whole, in the thread that opens them."""
_SIZELESS_LIMIT = 16 * 1024 * 1024
_ATTEMPTS = 5


@dataclass(slots=True)
class _Opened:
    path: str
    descriptor: int = -1
    status: os.stat_result | None = None
    content: bytes | None = None

    def open(self) -> None:
        self._refuse_irregular(os.stat(self.path))
        # Not waiting for a writer, should it be a pipe by now.
        self.descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        self.status = os.fstat(self.descriptor)
        self._refuse_irregular(self.status)
        if self.status.st_size <= IN_ONE_PIECE:
            self._read_whole()

    def _refuse_irregular(self, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", self.path)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidPath(f"not a regular file: {paths.lossy(self.path)}")

    def _read_whole(self) -> None:
        """Read a small file to its end: the kernel's own files (/proc, /sys) do not say their size."""
        for _ in range(_ATTEMPTS):
            before = os.fstat(self.descriptor)
            content = _read_to_end(self.descriptor, IN_ONE_PIECE)
            after = os.fstat(self.descriptor)
            if content is None and after.st_size > IN_ONE_PIECE:
                self.status = after
                return
            if content is None:
                content = _read_to_end(self.descriptor, _SIZELESS_LIMIT)
            if content is None:
                raise FileReadFailed(f"the kernel does not say how long it is: {paths.lossy(self.path)}")
            if _is_stable(before, after, len(content)):
                self.status, self.content = before, content
                return
        raise _unstable(self.path)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Download:
    """One open file being sent, an async context: entering it opens the file. Raises `InvalidPath`, `OSError`."""

    def __init__(self, threads: Threads, path: str) -> None:
        self._threads = threads
        self._opened = _Opened(path)
        self.size = 0
        self.modified_ns = 0
        self.etag = ""

    @property
    def content(self) -> bytes | None:
        """The whole file, if it is small."""
        return self._opened.content

    @property
    def descriptor(self) -> int:
        """The open file."""
        return self._opened.descriptor

    def verify(self) -> None:
        """Raise `FileReadFailed` if what was read may be a mixture: cut short or written over (grown is fine)."""
        before = self._opened.status
        assert before is not None  # noqa: S101 -- entered
        if not _is_stable(before, os.fstat(self.descriptor), self.size):
            raise _unstable(self._opened.path)

    def read_verified(self, offset: int, count: int) -> bytes:
        """Return `count` bytes, the last ones to be sent. Raises `FileReadFailed`, `OSError`."""
        content = os.pread(self.descriptor, count, offset)
        if len(content) != count:
            raise _unstable(self._opened.path)
        self.verify()
        return content

    async def __aenter__(self) -> Self:
        opened = self._opened
        try:
            await self._threads.run(opened.open)
        except BaseException:
            opened.close()
            raise
        assert opened.status is not None  # noqa: S101 -- opened
        self.size = opened.status.st_size if opened.content is None else len(opened.content)
        self.modified_ns = opened.status.st_mtime_ns
        self.etag = f"{opened.status.st_ino:x}-{self.modified_ns:x}-{self.size:x}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def _read_to_end(descriptor: int, limit: int) -> bytes | None:
    pieces: list[bytes] = []
    offset = 0
    while piece := os.pread(descriptor, limit + 1, offset):
        pieces.append(piece)
        offset += len(piece)
        if offset > limit:
            return None
    return b"".join(pieces)


def _is_stable(before: os.stat_result, after: os.stat_result, read: int) -> bool:
    unchanged = before.st_mtime_ns == after.st_mtime_ns and before.st_size == after.st_size
    # What only grew still begins with what was read.
    return unchanged or (after.st_size > before.st_size and after.st_size >= read)


def _unstable(path: str) -> FileReadFailed:
    return FileReadFailed(f"the file changed while it was being read: {paths.lossy(path)}")
