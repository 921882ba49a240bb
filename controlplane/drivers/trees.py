"""Directory trees as one tar file: links, holes, modes, owners, times and extended attributes. All calls block.

A tree may change while it is read: each file is stored as long as it was when it was opened, what vanishes is left out.
Sockets are not stored; devices are made again where that is allowed.
"""

import contextlib
import errno
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_BUFFER = 1024 * 1024
_XATTR = "SCHILY.xattr."
_BLOCK = tarfile.BLOCKSIZE
_LARGEST_SPARSE = 8**11
"""Bytes of data from which on Python's tarfile misreads a file with holes: it is then stored in full."""
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


class Stopped(Exception):
    """Somebody asked to stop."""


def pack_file(tree: Path, target: Path, stop: threading.Event) -> int:
    """Write a tree to a file, whole or not at all, and return the file's size. Raises `OSError`, `Stopped`."""
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb", buffering=0) as file:
            pack(tree, file, stop)
            os.fsync(file.fileno())
            size = file.tell()
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return size


def unpack_file(source: Path, tree: Path, stop: threading.Event) -> None:
    """Make the contents of a directory from a file. Raises `OSError`, `Stopped`."""
    with source.open("rb", buffering=0) as file:
        unpack(file, tree, stop)


def copy(source: Path, tree: Path, stop: threading.Event) -> None:
    """Make the contents of a directory from those of another. Raises `OSError`, `Stopped`."""
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def feed() -> None:
        with os.fdopen(writing, "wb", 0) as file:
            try:
                pack(source, file, stop)
            except BaseException as error:  # noqa: BLE001 -- raised by the reader below
                failures.append(error)

    # Not of the shared pool: as many copies as it has threads would wait for each other for ever.
    feeder = threading.Thread(target=feed, name="copy")
    feeder.start()
    try:
        with os.fdopen(reading, "rb", 0) as file:
            unpack(file, tree, stop)
    finally:
        feeder.join()
        if failures and not isinstance(failures[0], BrokenPipeError):
            raise failures[0]


def pack(tree: Path, target: BinaryIO, stop: threading.Event) -> None:
    """Write a tree as a tar stream. Raises `OSError`, `Stopped`."""
    links: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=target, mode="w|", bufsize=_BUFFER, format=tarfile.PAX_FORMAT) as archive:
        for directory, directories, files, descriptor in os.fwalk(tree, onerror=_raise_unless_vanished):
            if stop.is_set():
                raise Stopped
            inside = os.path.relpath(directory, tree)
            archive.addfile(_with_xattrs(_entry(inside, os.fstat(descriptor)), descriptor))
            for name in (*directories, *files):
                with _unless_vanished():
                    _add(archive, os.path.normpath(f"{inside}/{name}"), name, descriptor, links)
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all in memory


def _raise_unless_vanished(error: OSError) -> None:
    if error.errno not in _VANISHED:
        raise error


@contextlib.contextmanager
def _unless_vanished() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _raise_unless_vanished(error)


def _add(archive: tarfile.TarFile, path: str, name: str, directory: int, links: dict[tuple[int, int], str]) -> None:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        return  # a directory has its turn when it is walked
    entry = _entry(path, status)
    if stat.S_ISLNK(status.st_mode):
        entry.linkname = os.readlink(name, dir_fd=directory)
    elif status.st_nlink > 1 and (known := links.get((status.st_dev, status.st_ino))) is not None:
        entry.type, entry.linkname = tarfile.LNKTYPE, known
    elif stat.S_ISREG(status.st_mode):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            _add_file(archive, entry, descriptor)
        finally:
            os.close(descriptor)
        if status.st_nlink > 1:
            links[status.st_dev, status.st_ino] = path
        return
    archive.addfile(entry)


def _entry(path: str, status: os.stat_result) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.mode = stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid, entry.mtime = status.st_uid, status.st_gid, status.st_mtime
    kinds = {
        stat.S_IFDIR: tarfile.DIRTYPE,
        stat.S_IFLNK: tarfile.SYMTYPE,
        stat.S_IFIFO: tarfile.FIFOTYPE,
        stat.S_IFCHR: tarfile.CHRTYPE,
        stat.S_IFBLK: tarfile.BLKTYPE,
    }
    entry.type = kinds.get(stat.S_IFMT(status.st_mode), tarfile.REGTYPE)
    if entry.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return entry


def _add_file(archive: tarfile.TarFile, entry: tarfile.TarInfo, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return  # something else has taken its name
    _with_xattrs(entry, descriptor)
    size = status.st_size
    pieces = [(0, size)]
    head = b""
    if status.st_blocks * 512 < size:
        found = _data(descriptor, size)
        if sum(length for _, length in found) < _LARGEST_SPARSE:
            pieces = found
            head = _sparse_head(pieces)
            entry.pax_headers = {
                **entry.pax_headers,
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": entry.name,
                "GNU.sparse.realsize": str(size),
            }
            entry.name = "sparse"
    entry.size = len(head) + sum(length for _, length in pieces)
    # `addfile` only reads; a whole file object would be buffered and would stop at a file's new end.
    archive.addfile(entry, _Pieces(descriptor, head, pieces))  # type: ignore[arg-type]


def _data(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Return where a file has data: offset, length. The last one is where it ends, with no length."""
    found, position = [], 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            position = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no more data
                raise
            break
        if start < size:
            found.append((start, position - start))
    return [*found, (size, 0)]


def _sparse_head(pieces: list[tuple[int, int]]) -> bytes:
    """Return the map of GNU's sparse format 1.0, which comes before the data."""
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    text = "".join(f"{number}\n" for number in numbers).encode()
    return text + bytes(-len(text) % _BLOCK)


class _Pieces:
    """Pieces of a file one after the other, never shorter than announced: what is cut off meanwhile reads as zeros."""

    def __init__(self, descriptor: int, head: bytes, pieces: list[tuple[int, int]]) -> None:
        self._descriptor = descriptor
        self._head = head
        self._pieces = list(reversed(pieces))

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        found = bytearray(self._head[:size])
        self._head = self._head[size:]
        while len(found) < size:
            offset, length = self._pieces.pop()
            wanted = min(length, size - len(found))
            data = os.pread(self._descriptor, wanted, offset) if wanted else b""
            if len(data) < wanted and not data:
                data = bytes(wanted)
            found += data
            if len(data) < length:
                self._pieces.append((offset + len(data), length - len(data)))
        return bytes(found)


def _with_xattrs(entry: tarfile.TarInfo, descriptor: int) -> tarfile.TarInfo:
    with contextlib.suppress(OSError):  # not every file system has them
        for name in os.listxattr(descriptor):
            value = os.getxattr(descriptor, name).decode("utf-8", "surrogateescape")
            entry.pax_headers = {**entry.pax_headers, _XATTR + name: value}
    return entry


def unpack(source: BinaryIO, tree: Path, stop: threading.Event) -> None:
    """Make the contents of a directory from a tar stream of ours. Raises `OSError`, `Stopped`."""
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=_BUFFER) as archive:
            # What was packed may hold absolute links and every mode: it is the sandbox's own.
            archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
            archive.extractall(tree, members=_members(archive, tree, stop), numeric_owner=True)  # noqa: S202 -- as above
    except tarfile.TarError as error:
        raise OSError(errno.EIO, f"not a whole archive: {error}") from None


def _members(archive: tarfile.TarFile, tree: Path, stop: threading.Event) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        if stop.is_set():
            raise Stopped
        if member.ischr() or member.isblk():
            with contextlib.suppress(OSError):
                archive.extract(member, tree, numeric_owner=True)
        else:
            yield member
            _set_xattrs(tree / member.name, member)
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all in memory


def _set_xattrs(path: Path, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR):
            with contextlib.suppress(OSError):
                os.setxattr(
                    path, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"), follow_symlinks=False
                )
