"""Websockets: pings answered at all times, a bounded send queue, a close code and reason for every end."""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Self

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from toolbox.errors import BadRequest
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

VERSION_PROTOCOL = "X-Daytona-SDK-Version~"
EXIT_CONTROL_PROTOCOL = "X-Daytona-Pty-Exit-Control"
MAX_FRAME = 32 * 1024
"""Largest frame sent, in bytes: a published client overflows its stack at about 100 kB."""
MAX_MESSAGE = 4 * 1024 * 1024
SEND_QUEUE_BYTES = 1024 * 1024
WORKS: web.RequestKey[bool] = web.RequestKey("works", bool)
"""Set on the request of a websocket that carries something out, and ends with it."""
_RECEIVE_QUEUE = 64
_CLOSE_SECONDS = 1.0
_ABORT_SECONDS = 30.0
_MAX_REASON = 123


def offered_protocols(request: web.Request) -> list[str]:
    """Return the subprotocols a client offered, in order."""
    values = request.headers.getall("Sec-WebSocket-Protocol", ())
    return [token.strip() for value in values for token in value.split(",") if token.strip()]


def choose_protocol(offered: list[str]) -> str | None:
    """Return the subprotocol to answer with: a client that offered any fails the connection if none is picked.

    The SDK-version token first, then the exit-control token, else the first offered (contract, section 0).
    """
    for token in offered:
        if token.startswith(VERSION_PROTOCOL):
            return token
    if EXIT_CONTROL_PROTOCOL in offered:
        return EXIT_CONTROL_PROTOCOL
    return offered[0] if offered else None


def require_upgrade(request: web.Request) -> None:
    """Raise `BadRequest` for a request that is not the start of a websocket."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise BadRequest("this route is a websocket: an upgrade is needed")


async def _until_gone(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ConnectionResetError):
        await work


class Sockets:
    """Every open websocket, so that stopping can close them."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[Socket] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, socket: "Socket") -> None:
        """Count `socket` among the open ones."""
        self._open.add(socket)

    def discard(self, socket: "Socket") -> None:
        """It has closed."""
        self._open.discard(socket)

    async def close_all(self, *, working: bool = True) -> None:
        """Close every socket with 1001: the daemon is going away. Those at work only if `working`."""
        meant = [socket for socket in self._open if working or not socket.works]
        closing = [socket.close(WSCloseCode.GOING_AWAY, "shutting down") for socket in meant]
        await asyncio.gather(*closing, return_exceptions=True)


class Socket:
    """One server-side websocket.

    Entering starts a reader (which also answers pings) and a sender. `send` waits for room in the queue, `push`
    never waits: a client too slow for the queue is closed with 1008. Iterating yields the client's text and binary
    messages. Leaving closes, 1000 unless `close` said otherwise, 1011 after an error.
    """

    def __init__(
        self,
        request: web.Request,
        sockets: Sockets,
        *,
        max_message: int = MAX_MESSAGE,
        max_waiting: int = _RECEIVE_QUEUE,
        works: bool = False,
    ) -> None:
        """`works`: it carries something out, which a server that stops waits for if it may."""
        self._request = request
        self.works = works
        if works:
            request[WORKS] = True
        self._sockets = sockets
        protocol = choose_protocol(offered_protocols(request))
        self._ws = web.WebSocketResponse(
            protocols=(protocol,) if protocol else (), compress=False, max_msg_size=max_message, timeout=_CLOSE_SECONDS
        )
        self._incoming: asyncio.Queue[WSMessage | None] = asyncio.Queue(max_waiting)
        self._outgoing: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._queued = 0
        self._room = asyncio.Event()
        self._room.set()
        self._closing: asyncio.Task[None] | None = None
        self._tasks = TaskSet()
        self.closed = asyncio.Event()

    @property
    def response(self) -> web.WebSocketResponse:
        """What the endpoint returns."""
        return self._ws

    async def __aenter__(self) -> Self:
        await self._ws.prepare(self._request)
        self._sockets.add(self)
        self._tasks.start(self._read(), "websocket reader")
        self._tasks.start(self._send(), "websocket sender")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        failed = isinstance(error, Exception)
        if failed:
            log.error("websocket failed", exc_info=error)
        try:
            if not failed and self._closing is None:
                await self._flush()
            code, text = (WSCloseCode.INTERNAL_ERROR, "internal error") if failed else (WSCloseCode.OK, "")
            await self.close(code, text)
        finally:
            self._sockets.discard(self)
            await self._tasks.close()
        return failed

    async def _read(self) -> None:
        try:
            async for message in self._ws:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._incoming.put(message)
        finally:
            self.closed.set()
            self._room.set()
            # The iteration may be waiting: wake it without waiting ourselves.
            if self._incoming.full():
                self._incoming.get_nowait()
            self._incoming.put_nowait(None)

    async def _send(self) -> None:
        while True:
            data = await self._outgoing.get()
            try:
                await (self._ws.send_str(data) if isinstance(data, str) else self._ws.send_bytes(data))
            except (ConnectionError, RuntimeError):
                self.closed.set()
                self._room.set()
                return
            finally:
                self._outgoing.task_done()
            self._queued -= len(data)
            if self._queued < SEND_QUEUE_BYTES:
                self._room.set()

    async def _flush(self) -> None:
        """Wait until all that was queued has been sent, or the client is gone."""
        sent = self._tasks.start(self._outgoing.join(), "websocket flush")
        gone = self._tasks.start(self.closed.wait(), "websocket gone")
        await asyncio.wait((sent, gone), return_when=asyncio.FIRST_COMPLETED)

    def __aiter__(self) -> AsyncIterator[WSMessage]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[WSMessage]:
        while (message := await self._incoming.get()) is not None:
            yield message

    async def send(self, data: bytes | str) -> None:
        """Queue one message, after waiting for room. Raises `ConnectionResetError` when the client is gone."""
        await self._room.wait()
        if self.closed.is_set():
            raise ConnectionResetError("websocket closed")
        self._enqueue(data)

    def push(self, data: bytes | str) -> bool:
        """Queue one message at once; False if the client was too slow and is being closed."""
        if self.closed.is_set() or self._closing is not None:
            return False
        if not self._room.is_set():
            self._start_closing(WSCloseCode.POLICY_VIOLATION, "slow consumer")
            return False
        self._enqueue(data)
        return True

    async def deliver(self, data: bytes | str) -> None:
        """Send one message past the queue; returns when the connection takes more.

        For a handler that has nothing but its latest message in hand: a chatty stream at the speed of its client.
        Not to be mixed with `send` and `push`. Raises `ConnectionResetError` when the client is gone.
        """
        if self.closed.is_set() or self._closing is not None:
            raise ConnectionResetError("websocket closed")
        await (self._ws.send_str(data) if isinstance(data, str) else self._ws.send_bytes(data))

    async def while_open(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until it is done or the client has gone; the latter cancels it and is no error."""
        task = self._tasks.start(_until_gone(work), "websocket work")
        gone = self._tasks.start(self.closed.wait(), "websocket gone")
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
        finally:
            task.cancel()
            gone.cancel()

    def _enqueue(self, data: bytes | str) -> None:
        self._queued += len(data)
        if self._queued >= SEND_QUEUE_BYTES:
            self._room.clear()
        self._outgoing.put_nowait(data)

    async def close(self, code: int = WSCloseCode.OK, reason: str = "") -> None:
        """Close with a code and a reason of at most 123 bytes; the first call decides, all wait for the end of it."""
        await asyncio.shield(self._start_closing(code, reason))

    def _start_closing(self, code: int, reason: str) -> "asyncio.Task[None]":
        if self._closing is None:
            message = reason.encode()[:_MAX_REASON].decode("utf-8", "ignore").encode()
            self._closing = self._tasks.start(self._close(code, message), "websocket close")
        return self._closing

    async def _close(self, code: int, message: bytes) -> None:
        transport = self._request.transport
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._ws.close(code=code, message=message)
        except (TimeoutError, ConnectionError):
            # What is queued in the transport, the close frame last, may still reach a slow client, but not for ever.
            if transport is not None:
                asyncio.get_running_loop().call_later(_ABORT_SECONDS, transport.abort)
        finally:
            self.closed.set()
            self._room.set()
