"""Writes pictures as images. Imported in the threads that it is used in: its libraries are heavy."""

import binascii
import os
import struct
from dataclasses import dataclass

from PIL import Image

from toolbox.computeruse.screen.picture import Encoding, Region, Shot

try:
    from isal import isal_zlib as zlib  # the same checksums and format, five times as fast
except ImportError:
    import zlib  # type: ignore[no-redef]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_QUICK = 1
"""Level of deflate. Higher ones take longer and save little on a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screenshot:
    """An image of the screen."""

    image: bytes
    json: bytes
    """The image in base64 between quotes, where that was asked for."""
    width: int
    height: int
    region: Region
    pointer: tuple[int, int]
    hash: str
    """Of region and pixels before they were scaled."""


def develop(shot: Shot, encoding: Encoding, *, since: str = "", as_json: bool = False) -> Screenshot | None:
    """Make the image of a shot; None if its hash is `since`. Raises `BadRequest` if the format cannot hold it."""
    size = encoding.size(shot.region)
    shot.complete()
    digest = _hash(shot)
    if digest == since:
        return None
    image = _encode(shot, size, encoding)
    return Screenshot(
        image=image,
        json=b'"%b"' % binascii.b2a_base64(image, newline=False) if as_json else b"",
        width=size[0],
        height=size[1],
        region=shot.region,
        pointer=shot.pointer,
        hash=digest,
    )


def _hash(shot: Shot) -> str:
    region = shot.region
    seed = zlib.crc32(struct.pack("<4q", region.x, region.y, region.width, region.height))
    return f"{zlib.crc32(shot.pixels, seed):08x}{zlib.adler32(shot.pixels):08x}"


def _encode(shot: Shot, size: tuple[int, int], encoding: Encoding) -> bytes:
    whole = (shot.region.width, shot.region.height)
    # A view of the pixels, not a copy; the names of the channels are wrong, and no matter until they are written.
    view = Image.frombuffer("RGBX", whole, shot.pixels, "raw", "RGBX", 0, 1)
    if size != whole:
        # By whole numbers first, which is quick, and by the rest with all pixels taken into account.
        view = view.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    if encoding.format == "png":
        return _png(view)
    pixels = shot.pixels if size == whole else view.tobytes()
    image = Image.frombuffer("RGB", size, pixels, "raw", "BGRX", 0, 1)
    # A file that is memory: writing to one, Pillow lets the other threads run, which it does not otherwise.
    with os.fdopen(os.memfd_create("screenshot"), "w+b") as file:
        if encoding.format == "jpeg":
            image.save(file, "JPEG", quality=encoding.quality)
        else:
            image.save(file, "WEBP", quality=encoding.quality, method=0)
        file.seek(0)
        return file.read()


def _png(view: Image.Image) -> bytes:
    width, height = view.size
    # Each line of a PNG begins with the number of its filter, 0 for none. Here each line is followed by a 0, which
    # is the same but for the first and the last one.
    lines = view.tobytes("raw", "BGR", width * 3 + 1)
    deflate = zlib.compressobj(_QUICK)
    data = deflate.compress(b"\0") + deflate.compress(memoryview(lines)[:-1]) + deflate.flush()
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)  # 8 bits for each of red, green and blue
    return b"".join((_PNG_SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", data), *_chunk(b"IEND", b"")))


def _chunk(name: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    return struct.pack(">I", len(data)), name, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
