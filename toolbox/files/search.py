"""Looking through directory trees: in lexical order, in shifts, without following links."""

import os
import stat
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import TypeVar

from toolbox import paths
from toolbox.files.globs import BadPattern, Match, name_matcher
from toolbox.files.threads import FileThreads

T = TypeVar("T")

_BATCH = 5000
_SHIFT = 0.05


def shown(path: str) -> str:
    """Return how results name the root of a search: as the client did, cleaned, so that relative stays relative."""
    return os.path.normpath(path).replace("//", "/")


def below(root: str, name: str) -> str:
    """Return the shown path of what is called `name` in the shown directory `root`."""
    return name if root == "." else f"{root.rstrip('/')}/{name}"


async def in_shifts(threads: FileThreads, results: Iterator[list[T]]) -> AsyncGenerator[list[T], None]:
    """Yield what `results` gives, made in a file thread: batches of some size, or what there is after a while.

    So a caller that is cancelled, or has enough, waits only for the end of a shift.
    """
    finished = False
    while not finished:
        batch, finished = await threads.run(_work, results)
        yield batch


def _work(results: Iterator[list[T]]) -> tuple[list[T], bool]:
    over = time.monotonic() + _SHIFT
    batch: list[T] = []
    for found in results:
        batch += found
        if len(batch) >= _BATCH or time.monotonic() > over:
            return batch, False
    return batch, True


def search(root: str, name: str, pattern: str) -> Iterator[list[str]]:
    """Yield the paths below `root`, itself included, whose base name matches; of a pattern that is none, nothing.

    `name` is the shown path of `root`. What cannot be read is passed over, and so is a root that does not exist.
    """
    try:
        matches = name_matcher(paths.unescape(pattern))
        status = os.lstat(root)
    except (BadPattern, OSError):
        return
    if matches(paths.base_name(name)):
        yield [paths.escape(name)]
    if stat.S_ISDIR(status.st_mode):
        yield from _search_below(root, name, matches)


def _search_below(root: str, name: str, matches: Match) -> Iterator[list[str]]:
    """Yield matches in pre-order; each level of `levels` is what is left to do of one directory."""
    levels = [_look(root, below(name, ""), matches)]
    while levels:
        here, prefix, names, directories = levels[-1]
        if not directories:
            levels.pop()
            names.reverse()
            yield _escaped(prefix, names)
            continue
        found = []
        while names:
            word = names.pop()
            if word not in directories:
                found.append(word)
                continue
            if directories.pop(word):
                found.append(word)
            with suppress(OSError):
                levels.append(_look(f"{here}/{word}", f"{prefix}{word}/", matches))
            break
        yield _escaped(prefix, found)


_Level = tuple[str, str, list[str], dict[str, object]]


def _look(directory: str, prefix: str, matches: Match) -> _Level:
    """Return what is of interest in a directory: sorted names, last first, and which are directories (and match)."""
    directories: dict[str, object] = {}
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                directories[name] = matches(name)
                names.append(name)
            elif matches(name):
                names.append(name)
    names.sort(reverse=True)
    return directory, prefix, names, directories


def _escaped(prefix: str, names: list[str]) -> list[str]:
    found = [prefix + name for name in names]
    return found if all(map(str.isascii, found)) else [paths.escape(path) for path in found]
