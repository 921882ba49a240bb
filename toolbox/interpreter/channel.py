"""The daemon's end of the socket over which a kernel of ours tells all that it has to say.

The packets are described in `python_kernel/channel.py`, which runs in the user's interpreter and so is not imported.
"""

import asyncio
import socket
from collections.abc import Callable

_PACKET = 64 * 1024
_BATCH = 64
_MESSAGE_LIMIT = 8 * 1024 * 1024


class Channel:
    """Reads packets while it is not paused, and puts messages together that came in parts."""

    def __init__(self, on_packet: Callable[[bytes, bytes], None], on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket, self.other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._on_packet = on_packet
        self._on_end = on_end
        self._parts = bytearray()
        self._reading = False
        self.resume()

    def pause(self) -> None:
        """Take no more: the kernel waits when it has more to say."""
        if self._reading:
            self._loop.remove_reader(self._socket)
            self._reading = False

    def resume(self) -> None:
        """Take packets again."""
        if not self._reading and self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._read)
            self._reading = True

    def drain(self) -> None:
        """Take all that a kernel which has ended still had to say."""
        while self._socket.fileno() >= 0 and self._take():
            pass

    def close(self) -> None:
        """Close both ends."""
        self.pause()
        self._socket.close()
        self.other_end.close()

    def _read(self) -> None:
        for _ in range(_BATCH):
            if not self._reading or not self._take():
                return

    def _take(self) -> bool:
        """Handle one packet; False if there is none now."""
        try:
            packet = self._socket.recv(_PACKET)
        except BlockingIOError:
            return False
        except OSError:
            packet = b""
        if not packet:
            self.close()
            self._on_end()
            return False
        kind, payload = packet[:1], packet[1:]
        if kind not in b"FmL":
            self._on_packet(kind, payload)
            return True
        if kind == b"F":
            self._parts.clear()
        if len(self._parts) + len(payload) <= _MESSAGE_LIMIT:
            self._parts += payload
        if kind == b"L":
            self._on_packet(b"J", bytes(self._parts))
            self._parts.clear()
        return True
