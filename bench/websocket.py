"""A plain websocket client, blocking: just enough to measure with."""

import base64
import os
import socket
from urllib.parse import urlsplit


class WebSocket:
    """One connection to `path` of the toolbox at `url`."""

    def __init__(self, url: str, token: str | None, path: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb", buffering=256 * 1024)
        key = base64.b64encode(os.urandom(16)).decode()
        head = [
            f"GET {parts.path.rstrip('/')}{path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *([f"Authorization: Bearer {token}"] if token else []),
        ]
        self._socket.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        status = self._stream.readline()
        while self._stream.readline().strip():
            pass
        if b" 101 " not in status:
            raise RuntimeError(f"{path}: {status!r}")

    def send(self, data: bytes) -> None:
        """Send one binary message of at most 125 bytes."""
        # A mask of zeros is a mask: what the client's masking costs is no matter of the server measured.
        self._socket.sendall(bytes((0x82, 0x80 | len(data), 0, 0, 0, 0)) + data)

    def receive(self) -> bytes | None:
        """Return the payload of the next message; None when the server closes."""
        first, second = self._stream.read(2)
        length = second & 0x7F
        if length > 125:
            length = int.from_bytes(self._stream.read(2 if length == 126 else 8))
        payload = self._stream.read(length)
        return None if first & 0x0F == 8 else payload

    def receive_until(self, end: bytes) -> int:
        """Read until the stream ends with `end`; return how many bytes came."""
        count, tail = 0, b""
        while not tail.endswith(end):
            payload = self.receive()
            if payload is None:
                raise RuntimeError("the server closed")
            count += len(payload)
            tail = (tail + payload)[-len(end) :]
        return count

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
        self._socket.close()
