"""Copies of files and trees that keep what a copy can keep: links, holes, modes, owners, times, attributes."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from toolbox.files.atomic import copy_content, copy_extended_attributes

Identity = tuple[int, int]


def snapshot(root: str) -> dict[str, tuple[int, ...]]:
    """Return what tells whether anything in a tree has changed. Raises `OSError`."""
    found: dict[str, tuple[int, ...]] = {}
    for path, status in _walk(root):
        found[path] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def copy_tree(source: str, target: str) -> None:
    """Copy a file, a link or a directory with all below it. Raises `OSError`, with part of the copy made."""
    linked: dict[Identity, str] = {}
    directories: list[tuple[str, str, os.stat_result]] = []
    for path, status in _walk(source):
        copy = target + path[len(source) :]
        key = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(copy, 0o700)
            directories.append((path, copy, status))
        elif key in linked:
            os.link(linked[key], copy, follow_symlinks=False)
        else:
            if status.st_nlink > 1:
                linked[key] = copy
            _copy_one(path, copy, status)
            _keep_attributes(path, copy, status)
    # Last and deepest first: filling a directory needs its permissions, and changes its times.
    for path, copy, status in reversed(directories):
        _keep_attributes(path, copy, status)


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything in a tree, a directory before what is in it; links are not followed."""
    waiting = [root]
    while waiting:
        path = waiting.pop()
        status = os.lstat(path)
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            waiting.extend(f"{path}/{name}" for name in os.listdir(path))


def _copy_one(source: str, target: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(source, target)
    else:
        os.mknod(target, status.st_mode & ~0o777 | 0o600, status.st_rdev)


def _copy_file(source: str, target: str) -> None:
    old = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(old).st_size
            for start, stop in _data(old, size):
                copy_content(old, new, stop, start)
            os.ftruncate(new, size)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where there is content between the holes of a sparse file."""
    stop = 0
    while stop < size:
        try:
            start = os.lseek(descriptor, stop, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole to the end
            yield stop, size
            return
        stop = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        yield start, stop


def _keep_attributes(source: str, target: str, status: os.stat_result) -> None:
    with contextlib.suppress(PermissionError):
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    copy_extended_attributes(source, target)
    if not stat.S_ISLNK(status.st_mode):
        mode = stat.S_IMODE(status.st_mode)
        kept = os.lstat(target)
        if (kept.st_uid, kept.st_gid) != (status.st_uid, status.st_gid):
            mode &= ~(stat.S_ISUID | stat.S_ISGID)  # a privilege of the old owner, not of ours
        os.chmod(target, mode)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
