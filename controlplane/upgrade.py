"""A connection to a daemon that stops being HTTP: asked for by hand, since a client library would read on."""

import asyncio
import socket
from typing import Any

from controlplane.drivers.base import Address
from controlplane.upstreams import CONNECT_SECONDS, Upstream
from toolbox.errors import Unavailable

_MAX_HEAD = 16 * 1024


async def upgraded(upstream: Upstream, path: str, protocol: str) -> socket.socket:
    """Return a connection on which the daemon speaks `protocol` from the next byte. Raises `Unavailable`."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            connected = await _connect(upstream.address)
            try:
                await _ask(connected, upstream, path, protocol)
            except BaseException:
                connected.close()
                raise
            return connected
    except (OSError, TimeoutError):
        raise Unavailable("the sandbox does not answer") from None


async def _connect(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    places: list[tuple[int, str | tuple[Any, ...]]]
    if address.unix is not None:
        places = [(socket.AF_UNIX, address.unix)]
    else:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        places = [(each[0], each[4]) for each in found]
    failed: OSError = ConnectionError("no address")
    for kind, place in places:
        connected = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await loop.sock_connect(connected, place)
        except OSError as error:
            connected.close()
            failed = error
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise failed


async def _ask(connected: socket.socket, upstream: Upstream, path: str, protocol: str) -> None:
    loop = asyncio.get_running_loop()
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {upstream.address.host}\r\nAuthorization: {upstream.authorization}\r\n"
        f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    )
    await loop.sock_sendall(connected, head.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        # One byte at a time: what follows the head is not ours to read.
        byte = await loop.sock_recv(connected, 1)
        if not byte or len(answer) > _MAX_HEAD:
            raise ConnectionError("no answer")
        answer += byte
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError("refused")
