"""Watch events on their way to a client: by websocket, or as server-sent events."""

import asyncio
import contextlib

from aiohttp import hdrs, web

from toolbox.files.models import FileEvent
from toolbox.files.watch import Watch
from toolbox.lifetime import TaskSet
from toolbox.web import wire
from toolbox.web.websocket import Socket, Sockets

_KEEP_ALIVE_SECONDS = 15.0
_STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


async def send_events(request: web.Request, sockets: Sockets, watch: Watch) -> web.StreamResponse:
    """Send events, one per message, until the client leaves or the watch ends.

    A slow client is waited for; what happens meanwhile is kept within the bounds of the watch.
    """
    if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
        async with Socket(request, sockets) as socket, TaskSet() as tasks:
            tasks.start(_feed(socket, watch), "watch events")
            async for _ in socket:
                pass  # a client has nothing to say
        return socket.response
    response = web.StreamResponse(headers=_STREAM_HEADERS)
    await response.prepare(request)
    async with TaskSet() as tasks:
        tasks.start(_keep_alive(response), "watch keep-alive")
        async for batch in watch:
            await response.write(b"".join(map(_message, batch)))
    await response.write_eof()
    return response


async def _feed(socket: Socket, watch: Watch) -> None:
    with contextlib.suppress(ConnectionError):
        async for batch in watch:
            for event in batch:
                await socket.send(wire.encode(event).decode())
        await socket.close(reason="what was watched is gone")


async def _keep_alive(response: web.StreamResponse) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            # A comment: proxies close what is silent.
            await response.write(b":\n\n")
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)


def _message(event: FileEvent) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), wire.encode(event))
