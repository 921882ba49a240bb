"""One side of the proxy: a connection that speaks HTTP/1.1, and may become TLS or plain bytes."""

import asyncio
import socket
import ssl
from typing import Self, cast

import h11

_CHUNK = 64 * 1024
_MAX_HEAD = 64 * 1024
_PEEKED = 16
_HANDSHAKE_SECONDS = 20.0
_CLOSE_SECONDS = 5.0
_PER_HOP = frozenset({b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te", b"upgrade"})

Role = type[h11.CLIENT] | type[h11.SERVER]
Message = h11.Request | h11.Response | h11.InformationalResponse
Headers = list[tuple[bytes, bytes]]
Event = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]


class Peer:
    """A connection to a client (`h11.SERVER`) or to a server (`h11.CLIENT`)."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        role: Role,
        under: asyncio.StreamWriter | None = None,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(role, max_incomplete_event_size=_MAX_HEAD)
        self.base = b""
        """What stands before the path of a request, where the other end is a proxy."""
        self.login: Headers = []
        """What that proxy wants with each request."""
        self._under = under
        """What TLS goes over: a writer that nobody holds closes its connection."""

    async def receive(self) -> Event:
        """Return what comes next. Raises `OSError`, `h11.RemoteProtocolError`."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(_CHUNK))
        return event

    async def send(self, event: h11.Event) -> None:
        """Send an event, and wait while too much is on its way. Raises `OSError`, `h11.LocalProtocolError`."""
        data = self.http.send(event)
        if data:
            self.writer.write(data)
            await self.writer.drain()

    async def wait_gone(self) -> None:
        """Return when the other end has closed; what it sends meanwhile is kept for later, up to a bound.

        Raises `OSError`.
        """
        room = _MAX_HEAD
        while room > 0:
            data = await self.reader.read(min(room, _CHUNK))
            self.http.receive_data(data)
            if not data:
                return
            room -= len(data)
        await asyncio.Event().wait()  # too much is pipelined to see the end of it

    async def peek(self, seconds: float) -> bytes:
        """Return the first bytes that come, without taking them; none if there are none within `seconds`.

        `pause` comes before, `start_tls` or `again` after. Raises `OSError`.
        """
        loop = asyncio.get_running_loop()
        # The loop refuses a second reader of a transport's descriptor, not of a copy of it.
        with self.writer.get_extra_info("socket").dup() as copy:
            readable = asyncio.Event()
            loop.add_reader(copy, readable.set)
            try:
                async with asyncio.timeout(seconds):
                    await readable.wait()
                return bytes(copy.recv(_PEEKED, socket.MSG_PEEK))
            except (TimeoutError, BlockingIOError):
                return b""
            finally:
                loop.remove_reader(copy)

    def pause(self) -> None:
        """Take in nothing more."""
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def again(self) -> Self:
        """Return the client's connection for requests inside of a CONNECT, or for bytes."""
        cast("asyncio.Transport", self.writer.transport).resume_reading()
        return type(self)(self.reader, self.writer, h11.SERVER)

    async def start_tls(self, context: ssl.SSLContext, *, server_name: str | None = None) -> Self:
        """Return the connection after a TLS handshake: as the server, or as a client of `server_name`.

        Raises `OSError` (`ssl.SSLError`, timeouts).
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await loop.start_tls(
            self.writer.transport,
            protocol,
            context,
            server_side=server_name is None,
            server_hostname=server_name,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
        )
        if transport is None:
            raise ConnectionResetError("the other end is gone")
        protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        return type(self)(reader, writer, self.http.our_role, under=self.writer)

    @property
    def leftover(self) -> bytes:
        """What came after the end of HTTP."""
        return self.http.trailing_data[0]

    def abort(self) -> None:
        """End the connection at once, so that the other end sees that something is missing."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """End the connection after what was sent has arrived; not waiting long for that."""
        try:
            self.writer.close()
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.writer.wait_closed()
        except OSError:
            pass  # it is closed
        finally:
            self.abort()


def end_to_end(message: Message) -> Headers:
    """Return the headers that are not of this hop only, spelled as they came; a length beside chunks is dropped."""
    headers, raw = message.headers, message.headers.raw_items()
    names = [name for name, _ in headers]
    dropped = set(_PER_HOP)
    for name, value in headers:
        if name == b"connection":
            dropped.update(word.strip().lower() for word in value.split(b","))
    # These two are what the message is read by, whatever `Connection` says.
    dropped -= {b"content-length", b"transfer-encoding"}
    if b"transfer-encoding" in names:
        dropped.add(b"content-length")
    return [item for name, item in zip(names, raw, strict=True) if name not in dropped]


def wanted_upgrade(message: Message) -> Headers:
    """Return the headers that ask for another protocol, none if it is not asked for."""
    found = dict(message.headers)
    words = {word.strip().lower() for word in found.get(b"connection", b"").split(b",")}
    if b"upgrade" not in words or b"upgrade" not in found:
        return []
    return [(b"Connection", b"Upgrade"), (b"Upgrade", found[b"upgrade"])]


async def splice(one: Peer, other: Peer) -> None:
    """Carry bytes both ways until both have ended, or one has failed."""
    await asyncio.gather(_copy(one, other), _copy(other, one))


async def _copy(source: Peer, target: Peer) -> None:
    try:
        data = source.leftover
        while True:
            if data:
                target.writer.write(data)
                await target.writer.drain()
            data = await source.reader.read(_CHUNK)
            if not data:
                break
        if target.writer.can_write_eof():
            target.writer.write_eof()
        else:
            await target.close()
            source.abort()
    except OSError:
        source.abort()
        target.abort()
