"""An upgraded connection carried as bytes: what the two ends agreed on, codes, reasons and pings, passes as it is."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import aiohttp
from aiohttp import WSCloseCode, hdrs, web
from multidict import CIMultiDict

if TYPE_CHECKING:
    from aiohttp._websocket.reader import WebSocketReader

FLUSH_SECONDS = 10.0
"""How long what is on its way may take to arrive after the other end has gone."""
_OPCODE_CLOSE = 8
_MASKED = 0x80
_MAX_REASON = 123


class FrameWatcher:
    """Follows the frames in a stream of bytes: whether one is half sent, whether a close frame went by."""

    def __init__(self) -> None:
        self.closed = False
        self._head = bytearray()
        self._body = 0

    @property
    def between_frames(self) -> bool:
        """Whether a frame of our own could be sent now."""
        return not self._head and not self._body and not self.closed

    def feed(self, data: bytes) -> None:
        """Follow the next bytes."""
        at, end = 0, len(data)
        while at < end:
            if self._body:
                step = min(self._body, end - at)
                self._body -= step
                at += step
                continue
            self._head.append(data[at])
            at += 1
            if len(self._head) == _head_size(self._head):
                self._body = _body_size(self._head)
                self.closed = self.closed or self._head[0] & 0x0F == _OPCODE_CLOSE
                self._head.clear()


def _extended(head: bytearray) -> int:
    return {126: 2, 127: 8}.get(head[1] & 0x7F, 0)


def _head_size(head: bytearray) -> int:
    """Return the length of a frame's head as far as its first bytes tell."""
    if len(head) < 2:  # noqa: PLR2004
        return 2
    return 2 + _extended(head) + (4 if head[1] & _MASKED else 0)


def _body_size(head: bytearray) -> int:
    extended = _extended(head)
    return int.from_bytes(head[2 : 2 + extended], "big") if extended else head[1] & 0x7F


class _Side(asyncio.Protocol):
    """One end of the tunnel: its bytes go to the other end, which is read no faster than this one takes them."""

    def __init__(self, transport: asyncio.Transport, lost: Callable[[], None], *, half_close: bool) -> None:
        self.transport = transport
        self.watcher: FrameWatcher | None = None
        self.other: _Side
        self._half_close = half_close
        self.ended = False
        self._before = transport.get_protocol()
        self._lost = lost

    def take_over(self) -> None:
        """Become the transport's protocol."""
        self.transport.set_protocol(self)
        if not self.transport.is_reading():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.watcher is not None:
            self.watcher.feed(data)
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        if not self._half_close:
            return False
        self.ended = True
        if self.other.ended:
            self._lost()
        elif not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
        self._before.connection_lost(exc)

    def finish(self) -> None:
        """Close once everything written has arrived, or after a while."""
        self.transport.close()
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.transport.abort)


class _Leftover:
    """Takes what an aiohttp connection had read beyond the handshake (the one method its parsers have)."""

    def __init__(self, side: _Side) -> None:
        self._side = side

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass the bytes on."""
        if data:
            self._side.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """The connection ended."""


class Tunnels:
    """Every open tunnel, so that stopping can close them."""

    def __init__(self) -> None:
        self._open: set[asyncio.Event] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._open)

    def close_all(self) -> None:
        """End every tunnel with a close frame that says why."""
        self._stopping = True
        for ended in self._open:
            ended.set()

    async def carry(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: CIMultiDict[str], *, name: str
    ) -> web.StreamResponse:
        """Accept the client's upgrade as the other server did and carry bytes until one end is gone.

        `headers` are those to answer with, beside the ones of the upgrade; `name` is the other server's.
        """
        connection, client = answer.connection, request.transport
        if connection is None or connection.transport is None or connection.protocol is None or client is None:
            raise aiohttp.ClientConnectionError("the connection was lost")
        protocol = answer.headers.get(hdrs.UPGRADE, "")
        response = web.StreamResponse(status=101, reason=answer.reason, headers=headers)
        response.headers[hdrs.CONNECTION] = "Upgrade"
        response.headers[hdrs.UPGRADE] = protocol
        response.force_close()
        await response.prepare(request)
        is_websocket = protocol.lower() == "websocket"
        ended = asyncio.Event()
        near = _Side(client, ended.set, half_close=not is_websocket)
        far = _Side(connection.transport, ended.set, half_close=not is_websocket)
        near.other, far.other = far, near
        far.watcher = FrameWatcher() if is_websocket else None
        request.protocol.set_parser(cast("WebSocketReader", _Leftover(near)))
        connection.protocol.set_parser(_Leftover(far), None)
        near.take_over()
        far.take_over()
        self._open.add(ended)
        try:
            await ended.wait()
        finally:
            self._open.discard(ended)
            if far.watcher is not None and far.watcher.between_frames and not client.is_closing():
                client.write(self._last_frame(name))
            near.finish()
            far.finish()
        return response

    def _last_frame(self, name: str) -> bytes:
        if self._stopping:
            return _close_frame(WSCloseCode.GOING_AWAY, b"the server is stopping")
        return _close_frame(WSCloseCode.INTERNAL_ERROR, f"{name} broke off".encode()[:_MAX_REASON])


def _close_frame(code: int, reason: bytes) -> bytes:
    payload = code.to_bytes(2, "big") + reason
    return bytes((_MASKED | _OPCODE_CLOSE, len(payload))) + payload
