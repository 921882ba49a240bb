"""Jupyter's messages over ZeroMQ, on unix sockets. Imported when the first kernel starts: it takes a while."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.connect import write_connection_file
from jupyter_client.session import Session

PORTS = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}
CONNECTION_FILE = "connection.json"
_RECONNECT_MS = 20
_NOT_LINGERING = 0


class Place:
    """A directory with a kernel's sockets, which both sides name by a descriptor.

    So the path may be longer than a socket's name can be, and the kernel's user need not be able to get there.
    """

    def __init__(self, directory: Path, owner: tuple[int, int] | None) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700)
        self.descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self.descriptor, fcntl.LOCK_SH)  # another daemon is not to take it for a dead one's
        self.key = secrets.token_hex(16).encode()
        try:
            self._write(directory / CONNECTION_FILE, owner)
        except BaseException:
            self.remove()
            raise

    def _write(self, path: Path, owner: tuple[int, int] | None) -> None:
        ports: dict[str, Any] = PORTS
        write_connection_file(str(path), ip=f"{self.name}/k", key=self.key, transport="ipc", **ports)
        if owner is not None:
            for each in (path, self.directory):
                os.chown(each, *owner)

    @property
    def name(self) -> str:
        """What the directory is called, in every process that has the descriptor."""
        return f"/proc/self/fd/{self.descriptor}"

    @property
    def connection_file(self) -> str:
        """The connection file, as the kernel opens it."""
        return f"{self.name}/{CONNECTION_FILE}"

    def url(self, channel: str) -> str:
        """Return where a channel is."""
        return f"ipc://{self.name}/k-{PORTS[channel + '_port']}"

    def remove(self) -> None:
        """Remove the directory with the sockets, and what else the kernel has put there."""
        os.close(self.descriptor)
        shutil.rmtree(self.directory, ignore_errors=True)


class Connections:
    """What all kernels' sockets share."""

    def __init__(self) -> None:
        self._context = zmq.Context()

    def requests(self, place: Place) -> "Requests":
        """Connect to a kernel that says by another way how it gets on."""
        return Requests(self._context, place)

    def client(self, place: Place) -> "Client":
        """Connect to any kernel."""
        return Client(zmq.asyncio.Context(self._context), place)

    def close(self) -> None:
        """Let go of everything; all sockets must be closed."""
        self._context.term()


class Requests:
    """Sends execute requests; nobody waits for the replies."""

    def __init__(self, context: "zmq.Context[Any]", place: Place) -> None:
        self._session = _session(place)
        self._socket = context.socket(zmq.DEALER)
        self._socket.linger = _NOT_LINGERING
        self._socket.connect(place.url("shell"))

    def execute(self, code: str, metadata: Mapping[str, Any]) -> None:
        """Send a request, and forget the replies to earlier ones."""
        while self._socket.poll(0):
            self._socket.recv_multipart(zmq.NOBLOCK)
        self._session.send(self._socket, "execute_request", execute_content(code), metadata=dict(metadata))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Client:
    """A connection to any kernel: requests, and what it publishes."""

    def __init__(self, context: "zmq.asyncio.Context", place: Place) -> None:
        self._session = _session(place)
        self._sockets = {
            name: context.socket(kind)
            for name, kind in (("shell", zmq.DEALER), ("control", zmq.DEALER), ("iopub", zmq.SUB))
        }
        for name, socket in self._sockets.items():
            socket.linger = _NOT_LINGERING
            socket.reconnect_ivl = _RECONNECT_MS
            socket.rcvhwm = 0  # it would drop messages otherwise; runs are bounded
            if name == "iopub":
                socket.subscribe(b"")
            socket.connect(place.url(name))

    def send(self, channel: str, kind: str, content: Mapping[str, Any]) -> str:
        """Send a request and return its id."""
        message = self._session.msg(kind, dict(content))
        self._session.send(zmq.Socket.shadow(self._sockets[channel]), message)
        return str(message["header"]["msg_id"])

    async def receive(self, channel: str) -> dict[str, Any]:
        """Return the next message; one that cannot be read is passed over."""
        while True:
            frames = await self._sockets[channel].recv_multipart()
            try:
                _, parts = self._session.feed_identities(frames)
                return dict(self._session.deserialize(parts))
            except (ValueError, TypeError):
                await asyncio.sleep(0)

    def close(self) -> None:
        """Close all connections."""
        for socket in self._sockets.values():
            socket.close()


def _session(place: Place) -> Session:
    # Sending without a copy would start a thread for good.
    return Session(key=place.key, copy_threshold=sys.maxsize)


def execute_content(code: str) -> dict[str, Any]:
    """Return the content of an execute request."""
    return {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": False,
    }
