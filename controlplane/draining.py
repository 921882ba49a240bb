"""Being about to stop: who balances load is told, and what is being answered may end."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from aiohttp import hdrs, web

from controlplane.doors import operation_of
from toolbox.errors import Unavailable
from toolbox.web.middleware import Handler

LINGER_SECONDS = 2.0
_ENDLESS = frozenset({"events"})
"""Operations that nobody waits for: their clients connect anew, to another replica."""


class Draining:
    """Counts requests under way (an aiohttp middleware). Leaving it waits until none is left, `seconds` at most.

    Meanwhile new ones are answered as before, each on a connection that ends with it, so that its client's next
    request goes to another replica. That takes `LINGER_SECONDS`, if there are as many: a client that uses a connection
    all the time would otherwise send on it while it is closed.
    """

    __middleware_version__ = 1

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ready = False
        self._begun = False
        self._under_way = 0
        self._quiet = asyncio.Event()

    def __len__(self) -> int:
        return self._under_way

    def check(self) -> None:
        """Raise `Unavailable` unless requests are welcome."""
        if not self._ready:
            raise Unavailable("not ready")

    async def __aenter__(self) -> Self:
        self._ready = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ready, self._begun = False, True
        if kind is not None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await asyncio.sleep(LINGER_SECONDS)
                while self._under_way:
                    self._quiet.clear()
                    await self._quiet.wait()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one request."""
        if operation_of(request) in _ENDLESS:
            return await handler(request)
        self._under_way += 1
        try:
            return await handler(request)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def end_connection(self, request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG002
        """Make a connection's answer its last, once draining (an `on_response_prepare` signal)."""
        if self._begun and response.status != 101:  # noqa: PLR2004 -- a websocket's connection is its own
            response.force_close()
            response.headers[hdrs.CONNECTION] = "close"
