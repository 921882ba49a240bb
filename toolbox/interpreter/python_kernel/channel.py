"""The kernel's end of the socket to the daemon. Each packet is one byte, its kind, and at most `PACKET` bytes.

Packets are sent whole or not at all, so an interrupt cannot tear one apart and any thread or fork of this process may
send. When the daemon takes no more, sending waits: a program that prints without end is slowed, not stored.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import threading
from typing import Any

PACKET = 32 * 1024
MESSAGE_LIMIT = 3 * 1024 * 1024
"""Bytes of a message as JSON: a published client takes websocket messages of at most 4 MiB."""
TEXT_LIMIT = 256 * 1024
"""Characters kept of the text of one value."""

READY, STARTED, END = b"r", b"s", b"E"
STDOUT, STDERR = b"o", b"e"
MESSAGE, FIRST, MORE, LAST = b"J", b"F", b"m", b"L"
"""A message as JSON: whole, or in parts."""


class Channel:
    """Sends packets and messages."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self.socket = socket.socket(fileno=descriptor)
        self.socket.setblocking(False)
        self.lock = threading.Lock()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send one packet; waits while the daemon takes none, and does nothing once it is gone."""
        packet = kind + payload
        while True:
            try:
                self.socket.send(packet)
            except BlockingIOError:
                ready = select.poll()
                ready.register(self.socket, select.POLLOUT)
                ready.poll()
            except OSError:
                return
            else:
                return

    def message(self, message: dict[str, Any]) -> None:
        """Send a message, what is too large in it left out (and named in `omitted`)."""
        content = encode(clean(message))
        if len(content) > MESSAGE_LIMIT:
            content = encode(shrunk(clean(message)))
        if len(content) <= PACKET:
            self.send(MESSAGE, content)
            return
        with self.lock:  # parts of two messages would not fit together
            for start in range(0, len(content), PACKET):
                end = start + PACKET
                self.send(FIRST if start == 0 else LAST if end >= len(content) else MORE, content[start:end])


def encode(message: Any) -> bytes:
    """Return a message as JSON."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def clean(value: Any) -> Any:
    """Return the value as strict JSON has it: bytes as base64, no NaN, what JSON does not know as text."""
    if value is None or isinstance(value, (bool, str)):
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        import base64

        return base64.b64encode(value).decode()
    return clean(str(value))


def shrunk(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message small enough: of its bundle or chart the largest parts are left out, one after another."""
    key = "chart" if "chart" in message else "data"
    parts = dict(message.get(key) or {})
    left_out: list[str] = []
    message = {**message, key: parts, "omitted": left_out}
    if len(encode(message.get("metadata"))) > MESSAGE_LIMIT // 2:
        message["metadata"] = {}
        left_out.append("metadata")
    while parts and len(encode(message)) > MESSAGE_LIMIT:
        largest = max(parts, key=lambda name: len(encode(parts[name])))
        left_out.append(largest)
        del parts[largest]
        if largest == "elements":
            parts[largest] = []
    return message
