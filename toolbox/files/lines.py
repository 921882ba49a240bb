"""Lines with a text in them: read from ripgrep's output, or from the files themselves."""

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_LINE = 64 * 1024
"""Bytes shown of a line; a longer one is cut, and says so."""
_BINARY_BYTES = 512
_READ_AT_ONCE = 1024 * 1024


class Line(NamedTuple):
    """One line, of the file at `path` (relative to the searched directory)."""

    path: str
    number: int
    content: bytes
    """Without its end."""
    cut: bool


class RipgrepLines:
    """Takes apart what ripgrep prints with `--null`: path, NUL, line number, colon, line."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Line]:
        """Return the lines that are complete, or longer than will be shown, with `data`."""
        if self._skipping:
            _, end_of_line, data = data.partition(b"\n")
            self._skipping = not end_of_line
        data = self._rest + data
        found = []
        start = 0
        while (nul := data.find(b"\0", start)) >= 0 and (colon := data.find(b":", nul)) >= 0:
            end = data.find(b"\n", colon)
            whole = end >= 0
            if not whole:
                if len(data) - colon <= MAX_LINE + 1:
                    break
                self._skipping, end = True, len(data)
            content = data[colon + 1 : min(end, colon + 1 + MAX_LINE)]
            path = os.fsdecode(data[start:nul]).removeprefix("./")
            cut = end - colon - 1 > MAX_LINE
            found.append(Line(path, int(data[nul + 1 : colon]), content if cut else content.removesuffix(b"\r"), cut))
            start = end + 1
        self._rest = data[start:]
        return found


def lines_below(directory: str, text: bytes) -> Iterator[list[Line]]:
    """Yield the lines with `text` of each text file below `directory`, in lexical order; an empty list per other."""
    levels = [_entries(directory, "")]
    while levels:
        if not levels[-1]:
            levels.pop()
            continue
        path, is_directory = levels[-1].pop()
        if is_directory:
            levels.append(_entries(f"{directory}/{path}", f"{path}/"))
            yield []
        else:
            yield from lines_in(f"{directory}/{path}", path, text)


def _entries(directory: str, prefix: str) -> list[tuple[str, bool]]:
    """Return regular files and directories, the last first."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                if is_directory or entry.is_file(follow_symlinks=False):
                    found.append((prefix + entry.name, is_directory))
    except OSError:
        return []
    return sorted(found, reverse=True)


def lines_in(path: str, name: str, text: bytes) -> Iterator[list[Line]]:
    """Yield the lines of a file that contain `text`, in batches."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
    except OSError:
        return
    with open(descriptor, "rb", buffering=_READ_AT_ONCE) as file:
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            if not regular or b"\0" in os.pread(descriptor, _BINARY_BYTES, 0):
                return
            number = 0
            batch: list[Line] = []
            while piece := file.readline(MAX_LINE + 1):
                number += 1
                found = text in piece
                whole = piece.endswith(b"\n") or len(piece) <= MAX_LINE
                if not whole:
                    found |= _rest_contains(file.readline, piece, text)
                if found:
                    content = piece.removesuffix(b"\n").removesuffix(b"\r") if whole else piece[:MAX_LINE]
                    batch.append(Line(name, number, content, not whole))
                if number % 10_000 == 0:
                    yield batch
                    batch = []
            yield batch
        except OSError:
            return


def _rest_contains(readline: Callable[[int], bytes], piece: bytes, text: bytes) -> bool:
    """Read to the end of the line that begins with `piece`; tell whether `text` is in what is read."""
    found = False
    while not piece.endswith(b"\n") and (more := readline(MAX_LINE + 1)):
        found |= text in piece[-len(text) :] + more
        piece = more if len(more) >= len(text) else piece + more
    return found
