"""What is in a directory, and what a file is, in the words of the wire contract (those of Go)."""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from toolbox import paths
from toolbox.files.models import FileInfo
from toolbox.web import wire

_BATCH = 2000
_TYPE_LETTERS = {
    stat.S_IFREG: "",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "L",
    stat.S_IFBLK: "D",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "S",
    stat.S_IFCHR: "Dc",
}
_NANO = 1_000_000_000


@lru_cache(maxsize=512)
def mode_text(mode: int) -> str:
    """Return `mode` as Go prints it: type and special letters, or a dash for none, then `rwxrwxrwx`."""
    kind = _TYPE_LETTERS.get(stat.S_IFMT(mode), "?")
    special = ("u" if mode & stat.S_ISUID else "") + ("g" if mode & stat.S_ISGID else "")
    # Go's order of letters has the character device after setuid and setgid.
    letters = kind[:1] + special + kind[1:] + ("t" if mode & stat.S_ISVTX else "")
    bits = "".join(letter if mode & (0o400 >> at) else "-" for at, letter in enumerate("rwxrwxrwx"))
    return (letters or "-") + bits


@lru_cache(maxsize=512)
def _ownership(mode: int, uid: int, gid: int) -> tuple[str, bool, str, str, str]:
    return mode_text(mode), stat.S_ISDIR(mode), str(uid), str(gid), f"{mode & 0o777:04o}"


@lru_cache(maxsize=512)
def _second_texts(seconds: int) -> tuple[str, str]:
    try:
        year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    except (OverflowError, OSError, ValueError):
        year, month, day, hour, minute, second = (9999, 12, 31, 23, 59, 59) if seconds > 0 else (1, 1, 1, 0, 0, 0)
    date, clock = f"{year:04d}-{month:02d}-{day:02d}", f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{date} {clock}", f"{date}T{clock}"


def time_texts(nanoseconds: int) -> tuple[str, str]:
    """Return a time since the epoch as Go's `String()` prints it and as RFC 3339, both UTC, fractions trimmed."""
    seconds, rest = divmod(nanoseconds, _NANO)
    spaced, joined = _second_texts(seconds)
    fraction = (".%09d" % rest).rstrip("0") if rest else ""  # noqa: UP031 -- faster, and listings are made of this
    return f"{spaced}{fraction} +0000 UTC", f"{joined}{fraction}Z"


def describe(name: str, path: str, status: os.stat_result) -> FileInfo:
    """Return the wire model of one file from its `stat` result."""
    mode, is_dir, owner, group, permissions = _ownership(status.st_mode, status.st_uid, status.st_gid)
    mod_time, modified_at = time_texts(status.st_mtime_ns)
    return FileInfo(
        name=name if name.isascii() else paths.lossy(name),
        size=status.st_size,
        mode=mode,
        mod_time=mod_time,
        modified_at=modified_at,
        is_dir=is_dir,
        owner=owner,
        group=group,
        permissions=permissions,
        path=path if path.isascii() else paths.escape(path),
    )


def inspect(path: str, name: str) -> FileInfo:
    """Return what `path` is, links followed. Raises `OSError`, also for a link that leads nowhere."""
    return describe(name, path, os.stat(path))


def walk(directory: str, depth: int) -> Iterator[FileInfo]:
    """Yield what is in `directory`, `depth` levels deep: by name, a directory before what is in it.

    Links are followed to be described, not to be walked through; one that leads nowhere shows as itself. Entries that
    vanish meanwhile, and sub-directories that may not be read, are passed over. Raises `OSError` for `directory`.
    """
    levels = [_entries(directory)]
    while levels:
        for name, path in levels[-1]:
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISLNK(status.st_mode):
                with contextlib.suppress(OSError):
                    yield describe(name, path, os.stat(path))
                    continue
            yield describe(name, path, status)
            if stat.S_ISDIR(status.st_mode) and len(levels) < depth:
                with contextlib.suppress(OSError):
                    levels.append(_entries(path))
                    break
        else:
            levels.pop()


def _entries(directory: str) -> Iterator[tuple[str, str]]:
    names = sorted(os.listdir(directory))
    prefix = directory.rstrip("/") + "/"
    return ((name, prefix + name) for name in names)


class Listing:
    """A directory's entries as pieces of one JSON array, made as they are asked for: no listing is held whole."""

    def __init__(self, directory: str, depth: int) -> None:
        self._entries = walk(directory, depth)
        self._started = False
        self.finished = False

    def more(self) -> bytes:
        """Return the next piece of the array; once it was the last, `finished` is set. Raises `OSError`."""
        batch = list(islice(self._entries, _BATCH))
        self.finished = len(batch) < _BATCH
        opening = b"" if self._started else b"["
        comma = b"," if self._started and batch else b""
        self._started = True
        return opening + comma + wire.encode(batch)[1:-1] + (b"]" if self.finished else b"")
