"""New content for a file, in one step: a reader sees the old content or the new, never a mixture or a part.

The content is written to a nameless file in the destination's directory (or, where the file system has none, to one
named `.{name}.{random}.toolbox-tmp`), which then takes the destination's name. If the process dies meanwhile, a
nameless file is gone with it. The old file's mode, owner and extended attributes are kept, links to it are followed;
its other hard links keep the old content.

Where a new file cannot take the name (the destination is a mount point, the directory may not be written to, the
owner cannot be kept) the content is spooled and then copied over the old content in place, which a reader can see
half done; room on the disk is reserved first.

Nothing is forced to the disk unless `durable` is set: after a power cut the kernel may have lost the last seconds, as
with any program that does not wait for the disk. Set, the answer waits for file and directory.
"""

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Sequence

from toolbox import paths
from toolbox.errors import InvalidPath
from toolbox.files.edits import make_parents

MARK = ".toolbox-tmp"
_NAME_MAX = 255
_CREATE_MODE = 0o666
_COPY_BYTES = 1 << 20
_MANY_CHUNKS = 512
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
_NO_LINK = frozenset({errno.ENOENT, errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ENOSYS})
_NO_NEW_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_RENAME = frozenset({errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES})


class Replacement:
    """The coming content of the file `path`. All methods run in a file thread, one at a time.

    `write` any number of times, then `commit`; `discard` in any case.
    """

    def __init__(self, path: str, *, durable: bool = False) -> None:
        self.path = path
        self._durable = durable
        self._descriptor = -1
        self._directory = -1
        self._target = path
        self._temporary: str | None = None
        self._old: os.stat_result | None = None
        self._in_place = False

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append `chunks`. Raises `InvalidPath` where no file can be, `OSError`."""
        if self._descriptor < 0:
            self._open()
        write_all(self._descriptor, chunks)

    def commit(self) -> None:
        """Put the new content in place. Raises `InvalidPath`, `OSError`; the old content is then still there."""
        if self._descriptor < 0:
            self._open()
        if self._old is not None and not self._in_place:
            self._keep_attributes(self._old)
        if self._durable:
            os.fdatasync(self._descriptor)
        if self._in_place:
            self._overwrite()
            return
        try:
            self._take_name()
        except OSError as error:
            if self._old is None or error.errno not in _NO_RENAME:
                raise
            self._overwrite()
            return
        if self._durable:
            self._sync_directory()

    def discard(self) -> None:
        """Remove what is left over; after `commit`, nothing but descriptors."""
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._directory)
            self._temporary = None
        for descriptor in (self._descriptor, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._directory = -1

    def _open(self) -> None:
        try:
            self._old = self._examine()
            self._directory = self._open_directory()
        except FileNotFoundError:
            make_parents(self._target)
            self._directory = self._open_directory()
        try:
            self._descriptor = self._create()
        except OSError as error:
            if self._old is None or error.errno not in _NO_NEW_FILE:
                raise
            self._spool()

    def _examine(self) -> os.stat_result | None:
        """Follow links to the file to be replaced, and see whether it may be."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            if os.path.islink(self.path):
                self._target = os.path.realpath(self.path)
            return None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", self.path)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidPath(f"not a regular file: {paths.lossy(self.path)}")
        if os.path.islink(self.path):
            self._target = os.path.realpath(self.path)
        try:
            # A rename needs no permission on the file it replaces; who may not write it shall not replace it either.
            os.close(os.open(self._target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError as error:
            if error.errno != errno.ETXTBSY:  # a running program can be replaced, though not written
                raise
        return status

    def _open_directory(self) -> int:
        return os.open(paths.parent(self._target), os.O_PATH | os.O_DIRECTORY)

    def _create(self) -> int:
        try:
            return os.open(".", os.O_RDWR | os.O_TMPFILE, _CREATE_MODE, dir_fd=self._directory)
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
        return self._create_named()

    def _create_named(self) -> int:
        name = temporary_name(paths.base_name(self._target))
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, _CREATE_MODE, dir_fd=self._directory)
        self._temporary = name
        return descriptor

    def _spool(self) -> None:
        self._in_place = True
        with tempfile.TemporaryFile() as spool:
            self._descriptor = os.dup(spool.fileno())

    def _keep_attributes(self, old: os.stat_result) -> None:
        new = os.fstat(self._descriptor)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            try:
                os.fchown(self._descriptor, old.st_uid, old.st_gid)
            except PermissionError:
                self._in_place = True
                return
        # Privileges that an extended attribute gives were given to the old content.
        copy_extended_attributes(self._target, self._descriptor, but_not="security.")
        if stat.S_IMODE(new.st_mode) != stat.S_IMODE(old.st_mode):
            os.fchmod(self._descriptor, stat.S_IMODE(old.st_mode))

    def _take_name(self) -> None:
        name = paths.base_name(self._target)
        if self._temporary is None:
            try:
                if self._old is None and self._link(name):
                    return
                temporary = temporary_name(name)
                self._link(temporary)
                self._temporary = temporary
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                self._copy_to_named()
        assert self._temporary is not None  # noqa: S101 -- for the type checker
        os.rename(self._temporary, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._temporary = None

    def _copy_to_named(self) -> None:
        """Give the content a name on a file system that has nameless files and cannot link them."""
        nameless, self._descriptor = self._descriptor, self._create_named()
        try:
            copy_content(nameless, self._descriptor, os.fstat(nameless).st_size)
        finally:
            os.close(nameless)
        if self._old is not None:
            self._keep_attributes(self._old)
        if self._durable:
            os.fdatasync(self._descriptor)

    def _link(self, name: str) -> bool:
        """Name the nameless file, unless that name is taken. Raises `OSError`."""
        # Python asks for AT_SYMLINK_FOLLOW, without which /proc/self/fd/N cannot be linked, only when given both.
        source = f"/proc/self/fd/{self._descriptor}"
        try:
            os.link(source, name, src_dir_fd=self._directory, dst_dir_fd=self._directory, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def _sync_directory(self) -> None:
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._directory)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _overwrite(self) -> None:
        target = os.open(self._target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            size = os.fstat(self._descriptor).st_size
            _reserve(target, size)
            copy_content(self._descriptor, target, size)
            os.ftruncate(target, size)
            if self._durable:
                os.fdatasync(target)
        finally:
            os.close(target)


def temporary_name(name: str) -> str:
    """Return a name for a file beside `name` that is recognisably ours and not too long."""
    ending = f".{secrets.token_hex(6)}{MARK}"
    kept = os.fsencode(name)[: _NAME_MAX - 1 - len(ending)]
    return f".{os.fsdecode(kept)}{ending}"


def write_all(descriptor: int, chunks: Sequence[bytes]) -> None:
    """Write every byte of `chunks`. Raises `OSError`."""
    if len(chunks) > _MANY_CHUNKS:
        chunks = [b"".join(chunks)]
    left = sum(map(len, chunks))
    while left:
        done = os.writev(descriptor, chunks)
        left -= done
        if left:
            chunks = [b"".join(chunks)[done:]]


def copy_extended_attributes(source: str, target: str | int, *, but_not: str = "\0") -> None:
    """Copy what can be copied of the extended attributes, access lists among them, except those named `but_not…`."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source, follow_symlinks=False):
            if not name.startswith(but_not):
                with contextlib.suppress(OSError):
                    value = os.getxattr(source, name, follow_symlinks=False)
                    os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))


def copy_content(source: int, target: int, stop: int, start: int = 0) -> None:
    """Copy the bytes from `start` to `stop` between open files. Raises `OSError`, also when there are fewer."""
    offset = start
    while offset < stop:
        chunk = os.pread(source, min(_COPY_BYTES, stop - offset), offset)
        if not chunk:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        view = memoryview(chunk)
        while view:
            done = os.pwrite(target, view, offset)
            offset += done
            view = view[done:]


def _reserve(target: int, size: int) -> None:
    old = os.fstat(target).st_size
    if size <= old:
        return
    try:
        os.posix_fallocate(target, 0, size)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(target, old)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
