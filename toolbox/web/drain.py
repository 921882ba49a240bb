"""The end of a server that is told to stop: no new requests, while those under way are carried out."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from toolbox.errors import Unavailable
from toolbox.lifetime import Readiness, TaskSet
from toolbox.web.auth import PUBLIC_PATHS
from toolbox.web.websocket import WORKS, Sockets

STARTED: web.RequestKey[web.StreamResponse] = web.RequestKey("started", web.StreamResponse)
"""The answer to a request, once its head is out."""
_FOLLOWED = frozenset({"text/event-stream", "multipart/x-mixed-replace"})
"""What has no end of its own: events, pictures."""


class Drain:
    """Knows the requests under way."""

    def __init__(self, readiness: Readiness, sockets: Sockets) -> None:
        self._readiness = readiness
        self._sockets = sockets
        self._under_way: dict[int, web.Request] = {}
        self._begun = False
        self._less = asyncio.Event()

    async def handle(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Have `handler` answer the request. Raises `Unavailable` once the end has begun, but for health."""
        if request.path in PUBLIC_PATHS:
            return await handler(request)
        if self._begun:
            raise Unavailable("shutting down")
        self._under_way[id(request)] = request
        try:
            return await handler(request)
        finally:
            del self._under_way[id(request)]
            self._less.set()

    async def finish(self, seconds: float, hurry: asyncio.Event) -> None:
        """Be no longer ready, and close websockets that only follow something; return once all else is carried out.

        At the latest after `seconds`, or when `hurry` is set.
        """
        self._readiness.ready = False
        self._begun = True
        await self._sockets.close_all(working=False)
        async with TaskSet() as tasks:
            carried_out = tasks.start(self._finished(), "requests under way")
            hurried = tasks.start(hurry.wait(), "told to hurry")
            await asyncio.wait((carried_out, hurried), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def _finished(self) -> None:
        while any(map(_has_an_end, self._under_way.values())):
            self._less.clear()
            await self._less.wait()


def _has_an_end(request: web.Request) -> bool:
    begun = request.get(STARTED)
    if begun is None:
        return True
    if begun.status == HTTPStatus.SWITCHING_PROTOCOLS:  # a websocket, ours or of a program behind `/proxy`
        return WORKS in request
    return begun.content_type not in _FOLLOWED
