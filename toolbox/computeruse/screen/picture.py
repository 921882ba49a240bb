"""Pictures of the screen and what is asked of them. No heavy libraries here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toolbox.errors import BadRequest

Format = Literal["png", "jpeg", "webp"]

MAX_PIXELS = 2**25
"""Largest region, in pixels: an 8K screen. Raw, that is 128 MiB."""
_FORMATS: dict[str, Format] = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp"}
_MAX_SIDE = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}
"""Of an image, by format: what the libraries can write."""
_OPAQUE = 255
BYTES = 4
"""Of a pixel: blue, green, red, nothing."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of the screen, in pixels; parts of it may be outside."""

    x: int
    y: int
    width: int
    height: int

    def check(self) -> None:
        """Raise `BadRequest` for one that no picture is made of."""
        for name, side in (("width", self.width), ("height", self.height)):
            if side <= 0:
                raise BadRequest(f"{name}: must be greater than zero, not {side}")
        if self.width * self.height > MAX_PIXELS:
            raise BadRequest(f"region: {self.width} x {self.height} is more than {MAX_PIXELS} pixels")

    def moved(self, x: int, y: int) -> "Region":
        """Return the same rectangle, so much further to the right and down."""
        return Region(self.x + x, self.y + y, self.width, self.height)

    def common(self, other: "Region") -> "Region | None":
        """Return what both share; None when that is nothing."""
        left, top = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return Region(left, top, right - left, bottom - top) if left < right and top < bottom else None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is to be seen: a region, else a display, else the whole screen.

    With both, the region is relative to the corner of the display.
    """

    region: Region | None = None
    display: int | None = None
    cursor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a picture is written."""

    format: Format = "png"
    quality: int = 85
    scale: float = 1.0

    def size(self, region: Region) -> tuple[int, int]:
        """Return width and height of the image of a region. Raises `BadRequest` where the format is too small."""
        width, height = (max(1, int(side * self.scale)) for side in (region.width, region.height))
        if max(width, height) > (limit := _MAX_SIDE[self.format]):
            raise BadRequest(f"{width} x {height} does not fit in {self.format}, at most {limit} pixels on a side")
        return width, height


def parse_format(name: str) -> Format:
    """Return the format of that name, in either case. Raises `BadRequest`."""
    found = _FORMATS.get(name.lower())
    if found is None:
        raise BadRequest(f"format: expected one of {', '.join(_FORMATS)}, not {name!r}")
    return found


@dataclass(frozen=True, slots=True)
class Cursor:
    """The image of the pointer: where on the screen its upper left corner is, and its pixels.

    Pixels are numbers, alpha in the highest byte, then red, green and blue, multiplied by alpha already.
    """

    region: Region
    pixels: Sequence[int]
    serial: int
    """Another one for each other image."""


@dataclass(slots=True, kw_only=True)
class Shot:
    """Pixels as they were grabbed."""

    region: Region
    """What was asked for."""
    visible: Region | None
    """The part of it that is on the screen."""
    pixels: bytearray
    """Of the visible part."""
    pointer: tuple[int, int]
    """Where the pointer was on the screen."""
    cursor: Cursor | None
    """Still to be drawn."""

    def complete(self) -> None:
        """Draw the cursor, and put black around the visible part."""
        if self.cursor is not None and self.visible is not None:
            _draw(self.cursor, self.pixels, self.visible)
        self.cursor = None
        if self.visible != self.region:
            self.pixels = _padded(self.pixels, self.visible, self.region)
            self.visible = self.region


def _padded(pixels: bytearray, visible: Region | None, region: Region) -> bytearray:
    whole = bytearray(region.width * region.height * BYTES)
    if visible is not None:
        line = visible.width * BYTES
        place = ((visible.y - region.y) * region.width + visible.x - region.x) * BYTES
        with memoryview(pixels) as source:
            for start in range(0, len(pixels), line):
                whole[place : place + line] = source[start : start + line]
                place += region.width * BYTES
    return whole


def _draw(cursor: Cursor, pixels: bytearray, region: Region) -> None:
    common = cursor.region.common(region)
    if common is None:
        return
    for y in range(common.y, common.y + common.height):
        source = (y - cursor.region.y) * cursor.region.width + common.x - cursor.region.x
        place = ((y - region.y) * region.width + common.x - region.x) * BYTES
        for pixel in cursor.pixels[source : source + common.width]:
            rest = _OPAQUE - (pixel >> 24)
            if rest < _OPAQUE:
                for at, colour in enumerate(pixel.to_bytes(4, "little")[:3], place):
                    pixels[at] = min(colour + (pixels[at] * rest + _OPAQUE // 2) // _OPAQUE, _OPAQUE)
            place += BYTES
