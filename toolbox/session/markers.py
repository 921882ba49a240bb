"""Session output as published SDKs read it: one byte stream, each record behind a marker of three equal bytes.

A client looks for markers anywhere, also in what the program printed. So that no byte is lost, a run of three marker
bytes in the data is broken by a pair of markers that cancel out (contract, section 3).
"""

from collections.abc import AsyncIterator

from toolbox.children.journal import Record

MARKERS = {1: b"\x01\x01\x01", 2: b"\x02\x02\x02"}
"""Stream -> marker; the marker bytes are the stream numbers."""
MAX_FRAME = 32 * 1024
_RUNS = tuple(MARKERS.values())


class MarkerEncoder:
    """Puts markers before records; remembers the last byte, since a marker must not grow out of it."""

    def __init__(self) -> None:
        self._last = 0

    def encode(self, stream: int, data: bytes) -> bytes:
        """Return the record with its marker, decodable to exactly `data`."""
        guard = MARKERS[3 - self._last] if self._last in MARKERS else b""
        self._last = data[-1] if data else self._last
        escaped = self._escape(stream, data) if any(run in data for run in _RUNS) else data
        return guard + MARKERS[stream] + escaped

    @staticmethod
    def _escape(stream: int, data: bytes) -> bytes:
        result = bytearray()
        run = last = 0
        for byte in data:
            run = run + 1 if byte == last else 1
            last = byte
            if run == 3 and byte in MARKERS:  # noqa: PLR2004 -- the length of a marker
                other = 3 - byte
                result += MARKERS[other]
                if other != stream:
                    result += MARKERS[stream]
                run = 1
            result.append(byte)
        return bytes(result)


async def frames(records: AsyncIterator[Record]) -> AsyncIterator[bytes]:
    """Yield frames of at most `MAX_FRAME` bytes, ending with a record where it fits.

    No frame but perhaps the last ends on a marker byte: one published client misreads a marker cut by a frame's end.
    """
    encoder = MarkerEncoder()
    held = b""
    async for record in records:
        data = held + encoder.encode(record.stream, record.data)
        while data:
            frame = data[:MAX_FRAME].rstrip(b"\x01\x02") or (data[:MAX_FRAME] if len(data) > MAX_FRAME else b"")
            if not frame:
                break
            yield frame
            data = data[len(frame) :]
        held = data
    if held:
        yield held
