"""The screen on its way to a client: as JSON, and as a stream by websocket or in one endless answer."""

from aiohttp import WSCloseCode, hdrs, web

from toolbox.computeruse.screen.screen import Stream
from toolbox.web.websocket import Socket, Sockets

_BOUNDARY = b"--picture"
_HEADERS = {
    hdrs.CONTENT_TYPE: f"multipart/x-mixed-replace; boundary={_BOUNDARY[2:].decode()}",
    hdrs.CACHE_CONTROL: "no-store",
}


async def send_pictures(request: web.Request, sockets: Sockets, stream: Stream) -> web.StreamResponse:
    """Send every picture of the stream, until the desktop ends or the client leaves.

    A client is given the next picture only when it has taken the one before.
    """
    picture = await stream.first()
    if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
        async with Socket(request, sockets) as socket:
            await socket.while_open(_feed(socket, stream, picture))
        return socket.response
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        await _write_parts(response, stream, picture)
    return response


async def _feed(socket: Socket, stream: Stream, first: bytes) -> None:
    picture: bytes | None = first
    while picture is not None:
        await socket.deliver(picture)
        picture = await stream.next()
    await socket.close(WSCloseCode.GOING_AWAY, "the desktop has ended")


async def _write_parts(response: web.StreamResponse, stream: Stream, first: bytes) -> None:
    # A browser shows a picture when it sees the boundary that begins the next one: it must not have to wait for that.
    await response.write(_BOUNDARY + b"\r\n")
    following: bytes | None = first
    while following is not None:
        last = following
        await response.write(_part(last) + b"\r\n")
        following = await stream.next()
    # A part has been begun: the last picture again, which changes nothing to be seen.
    await response.write(_part(last) + b"--\r\n")
    await response.write_eof()


def _part(picture: bytes) -> bytes:
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
    return b"%b%b\r\n%b" % (head, picture, _BOUNDARY)
