"""The body of an upload as its client sent it: plain, or in chunks of AWS that may be signed one by one."""

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Protocol

from controlplane.objectstore.errors import S3Error
from controlplane.objectstore.sigv4 import Message, Signer

UNSIGNED = "UNSIGNED-PAYLOAD"
_SIGNED_CHUNKS = frozenset({"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"})
_CHUNKED = _SIGNED_CHUNKS | {"STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_CHUNK_HEAD = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?\r\n\Z")
_READ_BYTES = 256 * 1024
_MOST_TRAILERS = 16
_TRAILER_SIGNATURE = "x-amz-trailer-signature"


class Source(Protocol):
    """Where a body comes from."""

    async def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""

    async def readline(self) -> bytes:
        """Return a line with its end."""


class Body:
    """A body, unwrapped. `chunks` once, then `trailers` and `check_digest`."""

    def __init__(self, message: Message, source: Source, signer: Signer) -> None:
        self._kind = message.header("x-amz-content-sha256")
        if self._kind != UNSIGNED and self._kind not in _CHUNKED and not _HEX.match(self._kind):
            raise S3Error("InvalidRequest", f"x-amz-content-sha256 is missing or not usable: {self._kind[:80]!r}")
        self._source = source
        self._signer = signer
        self.trailers: dict[str, str] = {}
        """Headers that came after the body, with lower-case names."""
        self.length = _length(message, chunked=self._kind in _CHUNKED)
        """How many bytes there must be; None: as many as come."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content. Raises `S3Error` when it is not as announced or signed."""
        received = 0
        async for data in self._unwrapped() if self._kind in _CHUNKED else self._plain():
            received += len(data)
            if self.length is not None and received > self.length:
                break
            yield data
        if self.length is not None and received != self.length:
            raise S3Error("IncompleteBody", f"{self.length} bytes were announced, {received} came.")

    def check_digest(self, sha256: str) -> None:
        """Raise `S3Error` unless the content has the signed SHA-256, where there is one."""
        if _HEX.match(self._kind) and self._kind != sha256:
            raise S3Error("XAmzContentSHA256Mismatch", "The provided x-amz-content-sha256 does not match the content.")

    async def _plain(self) -> AsyncIterator[bytes]:
        while data := await self._source.read(_READ_BYTES):
            yield data

    async def _unwrapped(self) -> AsyncIterator[bytes]:
        signed = self._kind in _SIGNED_CHUNKS
        while True:
            head = _CHUNK_HEAD.match(await self._line())
            if head is None or (signed and head[2] is None):
                raise S3Error("IncompleteBody", "A chunk of the body is malformed.")
            size, digest = int(head[1], 16), hashlib.sha256()
            left = size
            while left:
                data = await self._source.read(min(left, _READ_BYTES))
                if not data:
                    raise S3Error("IncompleteBody", "The body ends within a chunk.")
                left -= len(data)
                digest.update(data)
                yield data
            if signed:
                self._signer.verify_chunk(head[2].decode(), digest.hexdigest())
            if size == 0:
                break
            if await self._line() != b"\r\n":
                raise S3Error("IncompleteBody", "A chunk of the body is longer than it says.")
        await self._read_trailers(signed=signed and self._kind.endswith("-TRAILER"))

    async def _read_trailers(self, *, signed: bool) -> None:
        text = bytearray()
        for _ in range(_MOST_TRAILERS):
            line = (await self._line()).strip()
            if not line:
                break
            name, _, value = line.decode("latin-1").partition(":")
            self.trailers[name.strip().lower()] = value.strip()
            if name.strip().lower() != _TRAILER_SIGNATURE:
                text += f"{name.strip().lower()}:{value.strip()}\n".encode("latin-1")
        if signed:
            # The client may end the headers with an empty line and send their signature after it.
            if _TRAILER_SIGNATURE not in self.trailers:
                name, _, value = (await self._line()).strip().decode("latin-1").partition(":")
                self.trailers[name.strip().lower()] = value.strip()
            self._signer.verify_trailer(self.trailers.pop(_TRAILER_SIGNATURE, ""), bytes(text))

    async def _line(self) -> bytes:
        try:
            return await self._source.readline()
        except ValueError:
            raise S3Error("IncompleteBody", "A chunk of the body is malformed.") from None


def _length(message: Message, *, chunked: bool) -> int | None:
    text = message.header("x-amz-decoded-content-length" if chunked else "content-length")
    if text.isascii() and text.isdigit():
        return int(text)
    if chunked:
        raise S3Error("MissingContentLength", "x-amz-decoded-content-length is missing.")
    return None
