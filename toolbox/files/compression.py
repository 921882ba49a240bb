"""Compressed streams, in constant memory whatever they expand to."""

import asyncio
import importlib
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

from toolbox.errors import BadRequest

Format = Literal["tar", "tar.gz", "tar.zst"]

PIECE = 1024 * 1024
"""Most bytes that come out at once."""
_GZIP = 31
_FAST = 1
_ZSTD_LEVEL = 3
_WINDOW_LOG = 25
"""Largest window of a zstd stream, 32 MiB: more is needed only for archives made with `--long`."""
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def compress(pieces: Iterator[bytes], form: Format) -> Iterator[bytes]:
    """Yield `pieces` in the compression that `form` names."""
    if form == "tar":
        yield from pieces
        return
    compressor = _compressor(form)
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()


def _compressor(form: Format) -> Any:
    if form == "tar.gz":
        return zlib.compressobj(_FAST, wbits=_GZIP)
    return _zstd().ZstdCompressor(level=_ZSTD_LEVEL)


async def load() -> None:
    """Import what archives need, in a thread that is the daemon's own: a file thread acts as a user who may not."""
    await asyncio.to_thread(lambda: (importlib.import_module("tarfile"), _zstd()))


def _zstd() -> Any:
    """Return the standard library's module of Python 3.14, or its backport; imported only where needed."""
    return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


class Decoder:
    """Expands a stream that is compressed with gzip, with zstd, or not at all, as its first bytes tell."""

    def __init__(self) -> None:
        self._start = b""
        self._decode: Callable[[bytes], Iterator[bytes]] | None = None
        self._stream: Any = None

    def feed(self, data: bytes, *, last: bool = False) -> Iterator[bytes]:
        """Yield what `data` expands to, in pieces. Raises `BadRequest` for a damaged or, at the end, cut stream."""
        if self._decode is None:
            data = self._start + data
            if len(data) < len(_ZSTD_MAGIC) and not last:
                self._start = data
                return
            self._decode = self._choose(data)
        yield from self._decode(data)
        if last and self._stream is not None and not self._stream.eof:
            raise BadRequest("the archive is cut: its compression does not end")

    def _choose(self, data: bytes) -> Callable[[bytes], Iterator[bytes]]:
        if data.startswith(_GZIP_MAGIC):
            return self._gunzip
        if data.startswith(_ZSTD_MAGIC):
            return self._unzstd
        return lambda data: iter((data,))

    def _gunzip(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                if self._stream is None or self._stream.eof:
                    self._stream = zlib.decompressobj(_GZIP)
                yield self._stream.decompress(data, PIECE)
                # Some programs fill up the last block with zeros.
                data = self._stream.unused_data.lstrip(b"\0") if self._stream.eof else self._stream.unconsumed_tail
        except zlib.error as error:
            raise BadRequest(f"the archive is damaged: {error}") from None

    def _unzstd(self, data: bytes) -> Iterator[bytes]:
        zstd = _zstd()
        try:
            while data or (self._stream is not None and not self._stream.eof and not self._stream.needs_input):
                if self._stream is None or self._stream.eof:
                    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
                    self._stream = zstd.ZstdDecompressor(options=options)
                yield self._stream.decompress(data, PIECE)
                data = self._stream.unused_data if self._stream.eof else b""
        except zstd.ZstdError as error:
            raise BadRequest(f"the archive is damaged: {error}") from None
