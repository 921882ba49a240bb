"""What a program of the desktop prints: a file of bounded size, and the one before it."""

import os
from pathlib import Path

MAX_BYTES = 1024 * 1024
"""Size at which a file is rotated, in bytes."""


class LogFile:
    """A file that a process appends to by itself. All of it blocks: for threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = path.with_name(f"{path.name}.1")

    def open(self) -> int:
        """Return a descriptor for a process to write to."""
        self.trim()
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def trim(self) -> None:
        """Rotate the file if it is over its size.

        The process goes on writing to the same file, so its content is moved, not its name.
        """
        try:
            with self._path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size <= MAX_BYTES:
                    return
                file.seek(size - MAX_BYTES)
                self._before.write_bytes(file.read(MAX_BYTES))
                file.truncate(0)
        except FileNotFoundError:
            return

    def text(self) -> str:
        """Return all that is kept, oldest first; "" when nothing is."""
        return b"".join(map(_content, (self._before, self._path))).decode("utf-8", "replace")

    def last_line(self) -> str:
        """Return the last line that is not empty, or ""."""
        lines = _content(self._path).decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


def _content(path: Path) -> bytes:
    """Return the end of a file, as much as it may have."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_BYTES))
            return file.read(MAX_BYTES)
    except FileNotFoundError:
        return b""
