"""Kernels of any language, by plain Jupyter messages: whatever kernelspec is installed."""

import asyncio
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolbox.children.process import Children
from toolbox.interpreter.kernel import START_SECONDS, Kernel
from toolbox.interpreter.models import Message
from toolbox.interpreter.run import Run
from toolbox.lifetime import TaskSet

if TYPE_CHECKING:
    from toolbox.interpreter.messaging import Connections, Place

_ASK_SECONDS = 0.2
_STYLES = re.compile(r"\x1b\[[0-9;]*m")
_ENDED = ("ok", "error", "aborted")


class JupyterKernel(Kernel):
    """A kernel that publishes what it has to say to whom it may concern; it cannot be held by a slow client."""

    def __init__(
        self,
        children: Children,
        connections: "Connections",
        place: "Place",
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        spool: Path,
        interrupt_by_message: bool,
    ) -> None:
        """Start `argv`, a kernelspec's command. Raises `Unavailable`."""
        super().__init__(children, place, argv, cwd=cwd, env=env, spool=spool)
        self._client = connections.client(place)
        self._interrupt_by_message = interrupt_by_message
        self._tasks = TaskSet()
        self._heard = asyncio.Event()
        self._answered = asyncio.Event()
        self._run: Run | None = None
        self._request = ""
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._replied = self._idle = False
        self._tasks.start(self._listen(), "kernel output")
        self._tasks.start(self._take_replies(), "kernel replies")

    async def ready(self) -> None:
        """Return when it answers and is heard. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(START_SECONDS):
                # What it publishes is lost until its subscription is made: seen by what belongs to a request.
                while not (self._answered.is_set() and self._heard.is_set()):
                    if self.child.exit is not None:
                        raise await self.failure()
                    self._client.send("shell", "kernel_info_request", {})
                    await asyncio.wait((self.child.ended,), timeout=_ASK_SECONDS)
        except TimeoutError:
            raise await self.failure() from None

    async def execute(self, run: Run, *, cwd: str | None = None, reseed: bool = False) -> bool:  # noqa: ARG002
        """Run code; `cwd` and `reseed` are for kernels of Python only."""
        from toolbox.interpreter.messaging import execute_content  # noqa: PLC0415

        self._run, self._replied, self._idle = run, False, False
        self._ended = asyncio.get_running_loop().create_future()
        self._request = self._client.send("shell", "execute_request", execute_content(run.code))
        try:
            return await self._ended
        finally:
            self._run = None

    async def interrupt(self) -> None:
        """Interrupt what runs, in the way of its kernelspec."""
        if self._interrupt_by_message:
            self._client.send("control", "interrupt_request", {})
        else:
            self.child.send_signal_to_group(signal.SIGINT)

    def resume(self) -> None:
        """Nothing: it is never held."""

    async def close(self) -> None:
        """End it."""
        await self._tasks.close()
        self._client.close()
        await super().close()

    async def _take_replies(self) -> None:
        while True:
            message = await self._client.receive("shell")
            if message["msg_type"] == "kernel_info_reply":
                self._answered.set()
            elif message["parent_header"].get("msg_id") == self._request:
                self._replied = True
                self._end_if_done()

    async def _listen(self) -> None:
        while True:
            message = await self._client.receive("iopub")
            self._heard.set()
            if self._run is not None:
                self._tell(self._run, message["msg_type"], message["content"], len(str(message["content"])))
                ours = message["parent_header"].get("msg_id") == self._request
                if ours and message["content"].get("execution_state") == "idle":
                    self._idle = True
                    self._end_if_done()

    def _end_if_done(self) -> None:
        # The reply and the last output come by two ways.
        if self._replied and self._idle and not self._ended.done():
            self._ended.set_result(False)

    @staticmethod
    def _tell(run: Run, kind: str, content: dict[str, Any], size: int) -> None:
        match kind:
            case "stream":
                run.text("stderr" if content["name"] == "stderr" else "stdout", content["text"])
            case "execute_result":
                run.add(Message(type="result", data=content["data"], metadata=content.get("metadata") or {}), size)
            case "display_data" | "update_display_data":
                message = Message(type="display", data=content["data"], metadata=content.get("metadata") or {})
                if (display_id := (content.get("transient") or {}).get("display_id")) is not None:
                    message.display_id, message.update = str(display_id), kind == "update_display_data"
                run.add(message, size)
            case "error":
                trace = _STYLES.sub("", "\n".join(content.get("traceback") or ()))
                run.add(
                    Message(type="error", name=content["ename"], value=content["evalue"], traceback=trace + "\n"), size
                )
