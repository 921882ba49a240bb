"""The latest bytes of an endless stream."""

import mmap


class Scrollback:
    """The last `capacity` bytes of a stream at absolute offsets, in a ring that is allocated once."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # A mapping of its own: only what was written to takes memory, and most terminals print little.
        self._ring = memoryview(mmap.mmap(-1, capacity))
        self.end = 0
        """How many bytes there have been in all."""

    @property
    def start(self) -> int:
        """The offset of the oldest byte that is kept."""
        return max(0, self.end - self._capacity)

    def room(self, keep: int) -> memoryview:
        """Return where the next bytes go, one piece, so long that nothing from the offset `keep` on is lost."""
        at = self.end % self._capacity
        free = self._capacity - (self.end - keep)
        return self._ring[at : min(self._capacity, at + free)]

    def grow(self, count: int) -> None:
        """Count `count` bytes that were put at the start of the room."""
        self.end += count

    def read(self, offset: int, most: int) -> bytes:
        """Return bytes from `offset` on, `most` at most; fewer at the end and where the ring closes."""
        at = offset % self._capacity
        return bytes(self._ring[at : min(self._capacity, at + min(most, self.end - offset))])
