"""Descriptors kept back, so that processes can be looked for and ended when all others are taken."""

import contextlib
import os
from collections.abc import Iterator

_COUNT = 8


class Reserve:
    """Holds a few descriptors, from `open` to `close`."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def open(self) -> None:
        """Take as many as there are, up to the full number."""
        with contextlib.suppress(OSError):
            while len(self._held) < _COUNT:
                self._held.append(os.open("/proc/self/fd", os.O_PATH | os.O_CLOEXEC))

    def close(self) -> None:
        """Give all back."""
        while self._held:
            os.close(self._held.pop())

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Let the block have them (or whoever is quicker)."""
        self.close()
        try:
            yield
        finally:
            self.open()
