"""Kernels of Python: ipykernel, started by `python_kernel/launch.py` in the user's interpreter."""

import asyncio
import contextlib
import json
import logging
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import charts
from toolbox.children.process import Children
from toolbox.interpreter.channel import Channel
from toolbox.interpreter.kernel import START_SECONDS, Kernel
from toolbox.interpreter.models import Message
from toolbox.interpreter.run import Run

if TYPE_CHECKING:
    from toolbox.interpreter.messaging import Connections, Place, Requests

log = logging.getLogger(__name__)

_BETWEEN_BYTES = 64 * 1024
_LAUNCH = Path(__file__).with_name("python_kernel") / "launch.py"
_STREAMS = {b"o": "stdout", b"e": "stderr"}
_MESSAGES = ("result", "display", "chart", "error")


class _End(msgspec.Struct):
    run: int
    interrupted: bool
    failed: str | None = None


class PythonKernel(Kernel):
    """An IPython kernel that tells all by a channel of its own: nothing is lost, and output holds it, not memory."""

    def __init__(
        self,
        children: Children,
        connections: "Connections",
        place: "Place",
        python: str,
        *,
        cwd: str,
        env: Mapping[str, str],
        spool: Path,
    ) -> None:
        """Start `python`. Raises `Unavailable`."""
        self._loop = asyncio.get_running_loop()
        self._connections = connections
        self._requests: Requests | None = None
        self._run: Run | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[bool] = self._loop.create_future()
        self._between: deque[tuple[str, bytes]] = deque()
        self._between_bytes = 0
        self._channel = Channel(self._on_packet, self._on_end)
        descriptor = self._channel.other_end.fileno()
        options = {"connection": place.connection_file, "channel": descriptor, "charts": str(charts.HOOK)}
        argv = [python, str(_LAUNCH), json.dumps(options)]
        try:
            super().__init__(children, place, argv, cwd=cwd, env=env, pass_fds=(descriptor,), spool=spool)
        except BaseException:
            self._channel.close()
            raise
        self._channel.other_end.close()

    async def ready(self) -> None:
        """Return when it takes requests. Raises `Unavailable`."""
        await asyncio.wait((self._ready, self.child.ended), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            raise await self.failure()
        if self._requests is None:
            self._requests = self._connections.requests(self._place)

    async def execute(self, run: Run, *, cwd: str | None = None, reseed: bool = False) -> bool:
        """Run code."""
        self._run = run
        self._started, self._ended = self._loop.create_future(), self._loop.create_future()
        for stream, data in self._between:
            run.output(stream, data)
        self._forget_between()
        assert self._requests is not None, "ready() comes first"  # noqa: S101
        wishes = {"run": run.number, "env": dict(run.env), "cwd": cwd, "reseed": reseed}
        self._requests.execute(run.code, {"toolbox": wishes})
        try:
            return await self._ended
        finally:
            self._run = None
            self._channel.resume()

    async def interrupt(self) -> None:
        """Interrupt what runs, as soon as it can be."""
        await asyncio.shield(self._started)
        self.child.send_signal_to_group(signal.SIGINT)

    def resume(self) -> None:
        """Go on taking output."""
        self._channel.resume()

    async def last_words(self) -> str:
        """Return what the process has printed itself, and before it was ready."""
        self._channel.drain()
        early = b"".join(data for _, data in self._between) if not self._ready.done() else b""
        return await super().last_words() + early.decode(errors="replace")

    async def close(self) -> None:
        """End it."""
        try:
            await super().close()
        finally:
            self._channel.close()
            if self._requests is not None:
                self._requests.close()

    def _on_packet(self, kind: bytes, payload: bytes) -> None:
        if kind in _STREAMS:
            self._print(_STREAMS[kind], payload)
        elif kind == b"r" and not self._ready.done():
            self._ready.set_result(None)
            self._forget_between()
        elif kind == b"s" and not self._started.done():
            self._started.set_result(None)
        elif kind == b"J":
            self._tell(payload)
        elif kind == b"E" and not self._ended.done():
            self._end(payload)
        if self._run is not None and self._run.full:
            self._channel.pause()

    def _print(self, stream: str, data: bytes) -> None:
        if self._run is not None:
            self._run.output(stream, data)
            return
        # Nobody listens: threads of an earlier run must not be held for that, and are heard with the next.
        self._between.append((stream, data))
        self._between_bytes += len(data)
        while self._between_bytes > _BETWEEN_BYTES:
            self._between_bytes -= len(self._between.popleft()[1])

    def _forget_between(self) -> None:
        self._between.clear()
        self._between_bytes = 0

    def _tell(self, payload: bytes) -> None:
        try:
            message = msgspec.json.decode(payload, type=Message)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("not a message of the kernel: %s", error)
            return
        if message.type not in _MESSAGES:
            log.warning("kernel: %s", message.text)
            return
        if self._run is not None:
            self._run.add(message, len(payload))

    def _end(self, payload: bytes) -> None:
        with contextlib.suppress(msgspec.MsgspecError):
            end = msgspec.json.decode(payload, type=_End)
            if self._run is None or end.run != self._run.number:
                return
            if end.failed:
                self._run.add(Message(type="error", name="ContextError", value=end.failed, traceback=end.failed + "\n"))
            self._ended.set_result(end.interrupted)

    def _on_end(self) -> None:
        """The other end was closed: with the process, or by a program that closes what it does not know."""
        if self.child.exit is None:
            self.child.send_signal(signal.SIGKILL)
