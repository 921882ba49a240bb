"""An archive unpacked into a directory while it arrives, never outside of it.

Nothing is written through a link: parents are opened one by one without following any, and a member takes the place
of a link that has its name. Links are stored as they are, wherever they lead. Each file appears whole, by a rename;
what was unpacked before an error stays.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Self

from toolbox import paths
from toolbox.errors import BadRequest, InvalidPath, PayloadTooLarge
from toolbox.files import edits
from toolbox.files.atomic import temporary_name, write_all
from toolbox.files.compression import PIECE, Decoder, load
from toolbox.files.models import UnpackAnswer
from toolbox.files.tarstream import DIRECTORY, FIFO, LINK, SYMLINK, Member, TarReader
from toolbox.files.threads import FileThreads

MAX_MEMBERS = 1_000_000
MAX_BYTES = 64 << 30
"""Most bytes that are unpacked, whatever they came compressed to."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_PARENT_MODE = 0o755
_PRIVILEGES = stat.S_ISUID | stat.S_ISGID
_PIECES_PER_SHIFT = 16


class Unpacking:
    """An archive being received, an async context. Methods raise `BadRequest`, `InvalidPath`, `OSError`."""

    def __init__(self, threads: FileThreads, path: str, *, same_owner: bool) -> None:
        self._threads = threads
        self._path = path
        self._extraction = Extraction(path, same_owner=same_owner)
        self._reader = TarReader(self._extraction)
        self._decoder = Decoder()
        self._waiting: list[bytes] = []
        self._collected = 0

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._waiting.append(chunk)
        self._collected += len(chunk)
        if self._collected >= PIECE:
            await self._work(last=False)

    async def finish(self, name: str) -> UnpackAnswer:
        """Unpack the rest and tell what there was."""
        await self._work(last=True)
        await self._threads.run(self._finish)
        found = self._extraction
        return UnpackAnswer(path=name, members=found.members, bytes=found.written)

    async def _work(self, *, last: bool) -> None:
        data, self._waiting, self._collected = b"".join(self._waiting), [], 0
        pieces = self._decoder.feed(data, last=last)
        while not await self._threads.run(self._unpack_some, pieces):
            pass

    def _unpack_some(self, pieces: Iterator[bytes]) -> bool:
        for _ in range(_PIECES_PER_SHIFT):
            piece = next(pieces, None)
            if piece is None:
                return True
            self._reader.feed(piece)
        return False

    def _finish(self) -> None:
        self._reader.close()
        self._extraction.settle()

    async def __aenter__(self) -> Self:
        await load()
        try:
            await self._threads.run(self._extraction.open)
        except BaseException:
            self._extraction.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._threads.run(self._extraction.close)


class Extraction:
    """Takes the members of an archive and puts them into a directory."""

    def __init__(self, path: str, *, same_owner: bool) -> None:
        self._path = path
        self._same_owner = same_owner
        self.members = 0
        self.written = 0
        self._root = -1
        self._parent: tuple[Sequence[str], int] = ((), -1)
        self._member: Member | None = None
        self._name = ""
        self._temporary: str | None = None
        self._file = -1
        self._directories: dict[tuple[str, ...], Member] = {}

    def open(self) -> None:
        """Open the directory; it is created where it is missing."""
        edits.create_folder(self._path, _PARENT_MODE)
        self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)

    def begin(self, member: Member) -> None:
        """Begin a member. Raises `InvalidPath` for one that would lie outside, `BadRequest`, `PayloadTooLarge`."""
        self.members += 1
        self.written += member.size
        if self.members > MAX_MEMBERS or self.written > MAX_BYTES:
            raise PayloadTooLarge(f"the archive has more than {MAX_MEMBERS} members or {MAX_BYTES >> 30} GiB")
        self._member = member
        *above, self._name = _words(member.name) or [""]
        if member.kind == DIRECTORY:
            if self._name:
                self._enter([*above, self._name])
                self._directories[(*above, self._name)] = member
            return
        if not self._name:
            raise InvalidPath(f"a member without a name: {paths.lossy(member.name)!r}")
        directory = self._enter(above)
        temporary = temporary_name(self._name)
        if member.is_file:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._file = os.open(temporary, flags, 0o600, dir_fd=directory)
        elif member.kind == SYMLINK:
            os.symlink(member.link, temporary, dir_fd=directory)
        elif member.kind == FIFO:
            os.mkfifo(temporary, 0o600, dir_fd=directory)
        elif member.kind == LINK:
            self._link(member, temporary, directory)
        else:
            raise BadRequest(f"neither a file, a directory nor a link: {paths.lossy(member.name)}")
        self._temporary = temporary

    def write(self, data: bytes) -> None:
        """Append to the file that has begun."""
        write_all(self._file, [data])

    def end(self) -> None:
        """Give the member its attributes and its name."""
        member, temporary, directory = self._member, self._temporary, self._parent[1]
        if member is None or temporary is None:
            return
        if self._file >= 0:
            self._keep_attributes(member, self._file)
            os.close(self._file)
            self._file = -1
        elif member.kind != LINK:
            self._keep_attributes(member, temporary, directory)
        os.rename(temporary, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        if member.kind == LINK:
            # A rename from one name of a file to another of the same does nothing.
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        self._temporary = None

    def settle(self) -> None:
        """Give directories their attributes, the deepest first: filling them needed, and changed, others."""
        for words in sorted(self._directories, key=len, reverse=True):
            with suppress(FileNotFoundError):
                self._keep_attributes(self._directories[words], self._enter(words))

    def close(self) -> None:
        """Remove what is not complete."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._temporary is not None:
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._parent[1])
            self._temporary = None
        for descriptor in (self._parent[1], self._root):
            if descriptor >= 0:
                os.close(descriptor)
        self._parent, self._root = ((), -1), -1

    def _enter(self, words: Sequence[str]) -> int:
        """Return the open directory below the root, made where it is missing; it stays open until the next call."""
        known, descriptor = self._parent
        if descriptor >= 0 and list(known) == list(words):
            return descriptor
        here = os.open(".", _DIRECTORY, dir_fd=self._root)
        try:
            for word in words:
                below = _open_below(here, word)
                os.close(here)
                here = below
        except OSError as error:
            os.close(here)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise InvalidPath(f"leads through a link or a file: {paths.lossy('/'.join(words))}") from None
            raise
        if descriptor >= 0:
            os.close(descriptor)
        self._parent = tuple(words), here
        return here

    def _link(self, member: Member, temporary: str, directory: int) -> None:
        *above, name = _words(member.link) or [""]
        # The directory of the new name must stay open while that of the old one is looked up.
        own, self._parent = self._parent, ((), -1)
        try:
            origin = self._enter(above)
            os.link(name, temporary, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            if self._parent[1] >= 0:
                os.close(self._parent[1])
            self._parent = own

    def _keep_attributes(self, member: Member, target: int | str, directory: int | None = None) -> None:
        follow = isinstance(target, int)
        made = os.stat(target, dir_fd=directory, follow_symlinks=follow)
        mode = member.mode
        if (made.st_uid, made.st_gid) != (member.uid, member.gid):
            mode = self._give_away(member, target, directory, follow=follow)
        if member.kind != SYMLINK and stat.S_IMODE(made.st_mode) != mode:
            os.chmod(target, mode, dir_fd=directory)
        times = (member.modified_ns, member.modified_ns)
        os.utime(target, ns=times, dir_fd=directory, follow_symlinks=follow)

    def _give_away(self, member: Member, target: int | str, directory: int | None, *, follow: bool) -> int:
        """Change the owner, if that is wanted and possible; return the mode: no privileges meant for another owner."""
        if self._same_owner:
            with suppress(PermissionError, OverflowError):
                os.chown(target, member.uid, member.gid, dir_fd=directory, follow_symlinks=follow)
                return member.mode
        return member.mode & ~_PRIVILEGES


def _open_below(directory: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, _PARENT_MODE, dir_fd=directory)
        return os.open(name, _DIRECTORY, dir_fd=directory)


def _words(name: str) -> list[str]:
    """Return the words of a member's name. Raises `InvalidPath` for one that would lead out of the directory."""
    words = [word for word in name.split("/") if word not in ("", ".")]
    if name.startswith("/") or ".." in words or "\0" in name:
        raise InvalidPath(f"leads out of the directory: {paths.lossy(name)!r}")
    return words
