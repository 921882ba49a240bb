"""A directory as one tar stream: made while it is sent, in constant memory, complete or broken off."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

from toolbox import paths
from toolbox.errors import FileReadFailed, InvalidPath
from toolbox.files.compression import Format, compress, load
from toolbox.files.tarstream import DIRECTORY, FIFO, FILE, LINK, SYMLINK
from toolbox.files.threads import FileThreads

_BLOCK = 512
_NANO = 1_000_000_000
_PIECE = 512 * 1024
_IN_ONE_PIECE = 1024 * 1024
_ATTEMPTS = 4
_END = bytes(2 * _BLOCK)


class Archive:
    """The archive of a directory (its contents, without itself) or of one file, an async context.

    Regular files, directories, links (hard ones too) and named pipes are kept, with mode, owner ids and times;
    sockets and devices are left out.
    """

    def __init__(self, threads: FileThreads, path: str, form: Format) -> None:
        self._threads = threads
        self._pieces = compress(_Packer().pack(path), form)
        self.finished = False
        self.name = f"{paths.base_name(path).strip('/') or 'root'}.{form}"

    async def more(self) -> bytes:
        """Return the next bytes; once they were the last, `finished` is set.

        Raises `OSError` for what cannot be read, `FileReadFailed` for a file that changes meanwhile, `InvalidPath`.
        """
        return await self._threads.run(self._collect)

    def _collect(self) -> bytes:
        found: list[bytes] = []
        size = 0
        while size < _PIECE:
            piece = next(self._pieces, None)
            if piece is None:
                self.finished = True
                break
            found.append(piece)
            size += len(piece)
        return b"".join(found)

    async def __aenter__(self) -> Self:
        await load()
        return self

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None and not self.finished:
            await self._threads.run(close)


class _Packer:
    def __init__(self) -> None:
        self._linked: dict[tuple[int, int], str] = {}

    def pack(self, root: str) -> Iterator[bytes]:
        """Yield the whole archive."""
        status = os.stat(root)
        if stat.S_ISDIR(status.st_mode):
            waiting = _entries(root, "")
        elif stat.S_ISREG(status.st_mode):
            waiting = [(paths.base_name(root), os.path.realpath(root))]
        else:
            raise InvalidPath(f"neither a directory nor a regular file: {paths.lossy(root)}")
        while waiting:
            name, path = waiting.pop()
            # What is gone by now is not there.
            with suppress(FileNotFoundError):
                status = os.lstat(path)
                if stat.S_ISDIR(status.st_mode):
                    waiting += _entries(path, f"{name}/")
                yield from self._member(name, path, status)
        yield _END

    def _member(self, name: str, path: str, status: os.stat_result) -> Iterator[bytes]:
        mode = status.st_mode
        key = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(mode):
            yield _header(f"{name}/", DIRECTORY, status)
        elif stat.S_ISLNK(mode):
            yield _header(name, SYMLINK, status, link=os.readlink(path))
        elif stat.S_ISFIFO(mode):
            yield _header(name, FIFO, status)
        elif not stat.S_ISREG(mode):
            return
        elif key in self._linked:
            yield _header(name, LINK, status, link=self._linked[key])
        else:
            yield from _file(name, path)
            if status.st_nlink > 1:
                self._linked[key] = name


def _entries(directory: str, prefix: str) -> list[tuple[str, str]]:
    """Return names in the archive and paths, the last first."""
    names = sorted(os.listdir(directory), reverse=True)
    return [(prefix + name, f"{directory}/{name}") for name in names]


def _header(name: str, kind: bytes, status: os.stat_result, *, link: str = "", size: int = 0) -> bytes:
    import tarfile  # noqa: PLC0415 -- only for archives

    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    member.size = size
    member.mode = stat.S_IMODE(status.st_mode)
    member.uid, member.gid = status.st_uid, status.st_gid
    member.mtime, fraction = divmod(status.st_mtime_ns, _NANO)
    if fraction:
        member.pax_headers = {"mtime": f"{member.mtime}.{fraction:09}"}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _file(name: str, path: str) -> Iterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
    try:
        for _ in range(_ATTEMPTS):
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise OSError(errno.EBUSY, "became another kind of file", path)
            if before.st_size >= _IN_ONE_PIECE:
                yield from _large_file(name, path, descriptor, before)
                return
            content = os.pread(descriptor, _IN_ONE_PIECE, 0)
            if len(content) < _IN_ONE_PIECE and _is_same(before, os.fstat(descriptor)):
                yield _header(name, FILE, before, size=len(content)) + content + bytes(-len(content) % _BLOCK)
                return
        raise FileReadFailed(f"the file changes all the time: {paths.lossy(path)}")
    finally:
        os.close(descriptor)


def _large_file(name: str, path: str, descriptor: int, before: os.stat_result) -> Iterator[bytes]:
    size = before.st_size
    yield _header(name, FILE, before, size=size)
    offset = 0
    while offset < size:
        chunk = os.pread(descriptor, min(_IN_ONE_PIECE, size - offset), offset)
        if not chunk:
            raise FileReadFailed(f"the file became shorter while it was being sent: {paths.lossy(path)}")
        offset += len(chunk)
        yield chunk
    after = os.fstat(descriptor)
    # What only grew still begins with what was sent.
    if not _is_same(before, after) and after.st_size <= size:
        raise FileReadFailed(f"the file changed while it was being sent: {paths.lossy(path)}")
    yield bytes(-size % _BLOCK)


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
