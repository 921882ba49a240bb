"""Routes of the screen."""

from http import HTTPStatus

import msgspec
from aiohttp import web

from toolbox.computeruse.screen.models import (
    CompressedQuery,
    CompressedRegionQuery,
    Position,
    RegionQuery,
    ScreenRegion,
    ScreenshotQuery,
    ScreenshotResponse,
    StreamQuery,
)
from toolbox.computeruse.screen.picture import Encoding, Region, View, parse_format
from toolbox.computeruse.screen.responses import send_pictures
from toolbox.computeruse.screen.screen import Order, Screen
from toolbox.web.endpoint import Routes
from toolbox.web.websocket import Sockets

routes = Routes("computer-use")
Answer = ScreenshotResponse | web.Response


@routes.get("/computeruse/screenshot", "TakeScreenshot")
async def take_screenshot(query: ScreenshotQuery, screen: Screen) -> Answer:
    """Take a picture of the whole screen, or of one display, as PNG.

    With `since`, the answer is 304 when the picture would be the one that has this `hash`.
    """
    return await _take(screen, query, Encoding())


@routes.get("/computeruse/screenshot/region", "TakeRegionScreenshot")
async def take_region(query: RegionQuery, screen: Screen) -> Answer:
    """Take a picture of a region as PNG; what is outside the screen is black."""
    return await _take(screen, query, Encoding(), _region(query))


@routes.get("/computeruse/screenshot/compressed", "TakeCompressedScreenshot")
async def take_compressed(query: CompressedQuery, screen: Screen) -> Answer:
    """Take a picture of the whole screen, or of one display, scaled and in the format asked for."""
    return await _take(screen, query, _encoding(query), pointer_in_picture=True)


@routes.get("/computeruse/screenshot/region/compressed", "TakeCompressedRegionScreenshot")
async def take_compressed_region(query: CompressedRegionQuery, screen: Screen) -> Answer:
    """Take a picture of a region, scaled and in the format asked for."""
    return await _take(screen, query, _encoding(query), _region(query))


@routes.get("/computeruse/screenshot/stream", "StreamScreenshots", produces="multipart/x-mixed-replace")
async def stream_screenshots(
    request: web.Request, query: StreamQuery, screen: Screen, sockets: Sockets
) -> web.StreamResponse:
    """Send the screen as JPEG whenever it has changed: a binary message each by websocket, else a part each.

    It ends with the desktop: the websocket with 1001.
    """
    view = View(display=query.display, cursor=query.with_cursor)
    encoding = Encoding(format="jpeg", quality=query.quality, scale=query.scale)
    return await send_pictures(request, sockets, screen.stream(view, encoding, fps=query.fps))


def _region(query: RegionQuery) -> Region:
    return Region(query.x, query.y, query.width, query.height)


def _encoding(query: CompressedQuery | CompressedRegionQuery) -> Encoding:
    return Encoding(format=parse_format(query.format), quality=query.quality, scale=query.scale)


async def _take(
    screen: Screen,
    query: ScreenshotQuery,
    encoding: Encoding,
    region: Region | None = None,
    *,
    pointer_in_picture: bool = False,
) -> Answer:
    view = View(region=region, display=query.display, cursor=query.with_cursor)
    taken = await screen.take(Order(view, encoding, query.since))
    if taken is None:
        return web.Response(status=HTTPStatus.NOT_MODIFIED)
    (x, y), seen = taken.pointer, taken.region
    if pointer_in_picture:
        x, y = int((x - seen.x) * encoding.scale), int((y - seen.y) * encoding.scale)
    return ScreenshotResponse(
        cursor_position=Position(x, y),
        size_bytes=len(taken.image),
        width=taken.width,
        height=taken.height,
        region=ScreenRegion(seen.x, seen.y, seen.width, seen.height),
        hash=taken.hash,
        display=query.display,
        screenshot=msgspec.Raw(taken.json),
    )
