"""Reading multipart/form-data as a stream, in constant memory.

The body is searched chunk by chunk for the delimiter; what lies between is handed on as it came, uncopied. A
delimiter counts only when what follows makes it one (a line end, or `--` and a line end or the body's end), so that
longer words in a file's content that begin like it do no harm.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from toolbox.errors import BadRequest

MAX_HEADER = 16 * 1024
"""Most bytes of one part's header."""
_MAX_BOUNDARY = 200
_MAX_PADDING = 256
_PARAMETER = re.compile(r";\s*([\w!#$%&'*+.^`|~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]*))")
_ESCAPED = re.compile(r"\\(.)")
_LINE_END = b"\r\n"


class Truncated(BadRequest):
    """The body ended before the multipart form did."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part's header."""

    name: str
    filename: str | None


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary that a multipart/form-data content type names, or None for any other type."""
    if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
        return None
    boundary = _parameters(content_type).get("boundary", "")
    if not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii():
        return None
    return boundary.encode("ascii")


class MultipartReader:
    """The parts of one form, in order.

    `read` gives the body's next bytes, empty at its end. `next_part` goes to the next part, passing over what was not
    read of the current one; `read_chunk` reads the current part's content.
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]], boundary: bytes) -> None:
        self._read = read
        self._delimiter = _LINE_END + b"--" + boundary
        # As if a line end came first: a body may begin with its first delimiter.
        self._buffer = _LINE_END
        self._at = 0
        self._ended = False
        self._in_content = True
        self._last = False

    async def next_part(self) -> Part | None:
        """Return the header of the next part, None after the last one. Raises `Truncated`, `BadRequest`."""
        while self._in_content:
            await self.read_chunk()
        if self._last:
            return None
        part = await self._read_header()
        self._in_content = True
        return part

    async def read_chunk(self) -> bytes:
        """Return the next bytes of the current part, empty at its end. Raises `Truncated`."""
        while self._in_content:
            found = self._buffer.find(self._delimiter, self._at)
            if found < 0:
                chunk = self._take_before(self._held_back())
                if not await self._more():
                    raise Truncated("the multipart body ended within a part")
            elif found > self._at:
                chunk = self._take_before(found)
            else:
                chunk = await self._pass_delimiter()
            if chunk:
                return chunk
        return b""

    async def read_text(self, limit: int) -> str | None:
        """Return the current part as text, None if it is longer than `limit` bytes. Raises `Truncated`."""
        text = bytearray()
        fits = True
        while chunk := await self.read_chunk():
            fits = fits and len(text) + len(chunk) <= limit
            if fits:
                text += chunk
        return text.decode("utf-8", "surrogateescape") if fits else None

    async def read_rest(self) -> bytes:
        """Return some of what is left of the body, whatever it is; empty at its end."""
        self._buffer, self._at = b"", 0
        await self._more()
        return self._buffer

    async def _more(self) -> bool:
        """Get more of the body behind what is left of the buffer; False at its end."""
        if self._ended:
            return False
        chunk = await self._read()
        if not chunk:
            self._ended = True
            return False
        self._buffer = self._buffer[self._at :] + chunk if self._at < len(self._buffer) else chunk
        self._at = 0
        return True

    def _take_before(self, end: int) -> bytes:
        start, self._at = self._at, end
        if start == 0 and end == len(self._buffer):
            return self._buffer
        return self._buffer[start:end]

    def _held_back(self) -> int:
        """Return where the unsearched rest begins: the first place at the end where a delimiter may have begun."""
        buffer, delimiter = self._buffer, self._delimiter
        start = max(self._at, len(buffer) - len(delimiter) + 1)
        while (start := buffer.find(b"\r", start)) >= 0:
            if delimiter.startswith(buffer[start:]):
                return start
            start += 1
        return len(buffer)

    async def _pass_delimiter(self) -> bytes:
        """Step over the delimiter at hand, or return it as content if it is none after all."""
        end = self._at + len(self._delimiter)
        while (verdict := self._judge(end)) is None:
            before = self._at
            if await self._more():
                end -= before
        if verdict < 0:
            return self._take_before(end)
        self._at = verdict
        self._in_content = False
        return b""

    def _judge(self, end: int) -> int | None:
        """Return where the delimiter line that goes on at `end` is over, -1 if it is none, None if that is open."""
        buffer = self._buffer
        last = buffer.startswith(b"--", end)
        at = end + 2 if last else end
        while at < len(buffer) and buffer[at] in b" \t" and at - end < _MAX_PADDING:
            at += 1
        if buffer.startswith(_LINE_END, at) or (last and at == len(buffer) and self._ended):
            self._last = last
            return at + (0 if last else 2)
        rest = buffer[at : at + 2]
        open_end = rest in (b"", b"\r") or (rest == b"-" and at == end)
        return None if open_end and not self._ended else -1

    async def _read_header(self) -> Part:
        # The first header line may be missing: the blank line then follows the delimiter at once.
        while not self._buffer.startswith(_LINE_END, self._at):
            found = self._buffer.find(b"\r\n\r\n", self._at, self._at + MAX_HEADER)
            if found >= 0:
                header = self._take_before(found)
                self._at += 4
                return _parse_header(header)
            if len(self._buffer) - self._at >= MAX_HEADER:
                raise BadRequest("the header of a multipart part is too long")
            if not await self._more():
                raise Truncated("the multipart body ended within a part's header")
        self._at += 2
        return Part("", None)


def _parse_header(header: bytes) -> Part:
    for line in header.decode("utf-8", "replace").split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip().lower() == "content-disposition":
            parameters = _parameters(value)
            return Part(parameters.get("name", ""), parameters.get("filename"))
    return Part("", None)


def _parameters(value: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(value):
        found.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) if quoted else plain)
    return found
