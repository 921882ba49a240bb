"""File contents on a connection: kernel to kernel, in constant memory, and never a clean end after a wrong content."""

import asyncio
import os
import select
import time

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from toolbox.errors import FileReadFailed
from toolbox.threads import Threads
from toolbox.web.downloads import Download

_LAST_PIECE = 64 * 1024
_COPY_BYTES = 256 * 1024
_MOST_AT_ONCE = 8 * 1024 * 1024
_PATIENCE_MS = 2
_SHIFT = 0.05


class Connection:
    """The connection of a prepared response, to send parts of files on."""

    def __init__(self, request: web.Request, writer: AbstractStreamWriter, threads: Threads) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        self._transport = transport
        self._writer = writer
        self._threads = threads
        self._can_push = _can_push(transport)

    def write(self, data: bytes) -> None:
        """Write `data` as it is, without framing."""
        self._transport.write(data)

    async def send_verified(self, download: Download, offset: int, count: int) -> None:
        """Send a part of a file, its last piece only once the file is known to have kept still.

        Raises `FileReadFailed` when it did not: the answer must then be broken off.
        """
        last = min(count, _LAST_PIECE)
        await self.send(download, offset, count - last)
        await self._writer.write(await self._threads.run(download.read_verified, offset + count - last, last))

    async def send(self, download: Download, offset: int, count: int) -> None:
        """Send a part of a file, raw, behind all that was written before. Raises `FileReadFailed` if it is cut."""
        if count == 0:
            return
        if not self._can_push:
            await self._copy(download, offset, count)
            return
        # With no room for buffering, draining means that all written so far has left.
        self._transport.set_write_buffer_limits(high=0)
        try:
            await self._writer.drain()
            # A descriptor of our own: the transport may close its one while a thread is at work on it.
            own = os.dup(self._transport.get_extra_info("socket").fileno())
            try:
                await self._push(own, download, offset, count)
            finally:
                os.close(own)
        finally:
            self._transport.set_write_buffer_limits()

    async def _push(self, connection: int, download: Download, offset: int, count: int) -> None:
        end = offset + count
        while offset < end:
            sent, blocked = await self._threads.run(_send_burst, connection, download.descriptor, offset, end - offset)
            offset += sent
            if blocked:
                await _writable(connection)
            elif offset < end and sent == 0:
                raise FileReadFailed("the file became shorter while it was being sent")

    async def _copy(self, download: Download, offset: int, count: int) -> None:
        end = offset + count
        while offset < end:
            size = min(_COPY_BYTES, end - offset)
            chunk = await self._threads.run(os.pread, download.descriptor, size, offset)
            if not chunk:
                raise FileReadFailed("the file became shorter while it was being sent")
            self._transport.write(chunk)
            await self._writer.drain()
            offset += len(chunk)


def _can_push(transport: asyncio.BaseTransport) -> bool:
    return transport.get_extra_info("socket") is not None and transport.get_extra_info("sslcontext") is None


def _send_burst(connection: int, descriptor: int, offset: int, count: int) -> tuple[int, bool]:
    """Send until the client is slow, the file at its end or the thread's shift over; tell how much, and if blocked."""
    sent = 0
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    over = time.monotonic() + _SHIFT
    while sent < count:
        try:
            done = os.sendfile(connection, descriptor, offset + sent, min(count - sent, _MOST_AT_ONCE))
        except BlockingIOError:
            # A fast client makes room within moments: waiting here is cheaper than by way of the loop.
            if not poll.poll(_PATIENCE_MS):
                return sent, True
            continue
        if done == 0:
            break
        sent += done
        if time.monotonic() > over:
            break
    return sent, False


async def _writable(connection: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(connection, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(connection)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
