"""A language server's process, and messages over its standard input and output.

The framing is that of the Language Server Protocol, base protocol: a header block with `Content-Length`, an empty
line, and as many bytes of JSON.
"""

import asyncio
import logging
import os
import re
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from toolbox.children.process import Child, Children, Exit
from toolbox.lsp.errors import ServerEnded

log = logging.getLogger(__name__)

MAX_MESSAGE = 64 * 1024 * 1024
"""Largest message taken from a server, in bytes."""
MAX_UNREAD = 64 * 1024 * 1024
"""Bytes that may wait for a server which does not read."""
_TAIL = 4096
_GRACE = 1.0
_LENGTH = b"content-length:"
_NAMES_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")


class _ErrorTail(asyncio.Protocol):
    """Keeps the end of what a server says on standard error."""

    def __init__(self) -> None:
        self.tail = b""

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-_TAIL:]

    @property
    def reason(self) -> str:
        """The last line that names an error, or else the last one: Node says its version after what it ended of."""
        lines = self.tail.decode("utf-8", "replace").strip().splitlines()
        return next(filter(_NAMES_ERROR.match, reversed(lines)), lines[-1] if lines else "").strip()


class ServerProcess:
    """A running server. Made by `start`, ended by `end`."""

    def __init__(
        self, child: Child, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, temporary: Path
    ) -> None:
        self.child = child
        self._temporary = temporary
        self._reader = reader
        self._writer = writer
        self._errors = _ErrorTail()
        self._errors_transport: asyncio.ReadTransport | None = None

    @classmethod
    async def start(cls, children: Children, argv: Sequence[str], *, cwd: str, env: Mapping[str, str]) -> Self:
        """Start a server. Raises `OSError`."""
        # Servers do not clear away what they have there when they are ended.
        temporary = await asyncio.to_thread(children.scratch.make, "server")
        env = {**env, "TMPDIR": str(temporary), **_kept_caches(env)}
        ours, theirs = socket.socketpair()
        errors, errors_end = os.pipe2(os.O_CLOEXEC)
        try:
            child = children.spawn(
                argv, cwd=cwd, env=env, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=errors_end
            )
        except BaseException:
            ours.close()
            os.close(errors)
            await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)
            raise
        finally:
            theirs.close()
            os.close(errors_end)
        pipe = os.fdopen(errors, "rb", 0)
        process: Self | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            process = cls(child, reader, writer, temporary)
            loop = asyncio.get_running_loop()
            process._errors_transport, _ = await loop.connect_read_pipe(lambda: process._errors, pipe)
        except BaseException:
            ours.close()
            pipe.close()
            await child.kill_tree(grace=0)
            await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)
            raise
        return process

    def send(self, body: bytes) -> None:
        """Send a message, at once or when the server reads; one that never reads is killed. Raises `ServerEnded`."""
        if self._writer.is_closing():
            raise ServerEnded("the language server has ended")
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self.child.send_signal(signal.SIGKILL)
            raise ServerEnded("the language server did not read what it was sent")
        self._writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def drain(self) -> None:
        """Wait until the server has read most of what it was sent. Raises `ServerEnded`."""
        try:
            await self._writer.drain()
        except ConnectionError:
            raise ServerEnded("the language server has ended") from None

    async def receive(self) -> bytes:
        """Return the next message. Raises `ServerEnded` at the end, or for what is no message."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            size = _content_length(head)
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ServerEnded(await self._last_words()) from None
        except (ValueError, asyncio.LimitOverrunError):
            raise ServerEnded("what it prints is not the language server protocol") from None

    async def _last_words(self) -> str:
        """Return why it ended: its exit, and the end of what it said on standard error."""
        try:
            async with asyncio.timeout(_GRACE):
                exit_: Exit | None = await self.child.wait()
        except TimeoutError:
            exit_ = None
        if exit_ is not None and exit_.cause is not None:
            # It did not end by itself, so what it said before is not the reason.
            return f"the language server ended: {exit_.cause}"
        reason = "closed its output" if exit_ is None else f"ended with exit code {exit_.code}"
        said = self._errors.reason
        return f"the language server {reason}" + (f": {said}" if said else "")

    async def end(self, grace: float = _GRACE) -> None:
        """End the process and all that it started, and release everything."""
        self._writer.close()
        try:
            await self.child.kill_tree(grace)
        finally:
            if self._errors_transport is not None:
                self._errors_transport.close()
            await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)
            await asyncio.sleep(0)  # the transports close their descriptors in the loop's next round


def _kept_caches(env: Mapping[str, str]) -> dict[str, str]:
    """Return where Node keeps compiled programs: where it would without a directory of the server's own."""
    temporary = env.get("TMPDIR") or "/tmp"  # noqa: S108 -- Node's own choice
    return {} if "NODE_COMPILE_CACHE" in env else {"NODE_COMPILE_CACHE": f"{temporary}/node-compile-cache"}


def _content_length(head: bytes) -> int:
    """Return the length that a header block gives. Raises `ValueError`."""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(_LENGTH):
            size = int(line[len(_LENGTH) :])
            if 0 <= size <= MAX_MESSAGE:
                return size
    raise ValueError(head)
