"""Wire models of screenshots (contract, computer-use.md section 2)."""

from typing import Annotated, Literal

import msgspec

from toolbox.web.wire import Model

Flag = Literal["1", "0", "t", "f", "T", "F", "true", "false", "True", "False", "TRUE", "FALSE"]
"""The spellings of a boolean."""
Quality = Annotated[int, msgspec.Meta(ge=1, le=100)]
Scale = Annotated[float, msgspec.Meta(ge=0.1, le=1.0)]
DisplayId = Annotated[int, msgspec.Meta(ge=0)]
Base64 = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "string", "contentEncoding": "base64"})]


class ViewQuery(Model, kw_only=True):
    """`show_cursor` wins over `showCursor`; `display` is the number of one display."""

    show_cursor: Flag = "false"
    show_cursor_: Flag | None = msgspec.field(default=None, name="show_cursor")
    display: DisplayId | None = None

    @property
    def with_cursor(self) -> bool:
        """Whether the cursor is to be seen."""
        return (self.show_cursor_ or self.show_cursor)[0] in "1tT"


class ScreenshotQuery(ViewQuery, kw_only=True):
    """`since` is the hash of the picture that the client has."""

    since: str = ""


class RegionQuery(ScreenshotQuery, kw_only=True):
    """A region, which may lie outside the screen in part."""

    x: int
    y: int
    width: int
    height: int


class CompressedQuery(ScreenshotQuery, kw_only=True):
    """`format` is png, jpeg, jpg or webp, in either case."""

    format: str = "png"
    quality: Quality = 85
    scale: Scale = 1.0


class CompressedRegionQuery(RegionQuery, kw_only=True):
    """As `RegionQuery` and `CompressedQuery`."""

    format: str = "png"
    quality: Quality = 85
    scale: Scale = 1.0


class StreamQuery(ViewQuery, kw_only=True):
    """`fps` is the most pictures in a second."""

    fps: Annotated[float, msgspec.Meta(ge=0.1, le=30)] = 10
    quality: Quality = 80
    scale: Scale = 1.0


class Position(Model):
    """A place, in pixels."""

    x: int
    y: int


class ScreenRegion(Model):
    """A rectangle of the screen, in pixels."""

    x: int
    y: int
    width: int
    height: int


class ScreenshotResponse(Model, kw_only=True, omit_defaults=True):
    """A picture of `region`, `width` x `height` pixels large; `hash` is another one when the screen has changed.

    `cursorPosition` is where the pointer is on the screen; of a compressed picture of the whole screen or a display,
    where it is in the picture.
    """

    cursor_position: Position
    size_bytes: int
    width: int
    height: int
    region: ScreenRegion
    hash: str
    display: int | None = None
    screenshot: Base64
