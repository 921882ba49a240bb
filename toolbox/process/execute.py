"""Runs one command in the sandbox's shell and keeps what it prints."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from toolbox.children.environment import Environment, check_variables
from toolbox.children.process import Child, Children, Exit
from toolbox.children.spool import OutputPipe, Spool
from toolbox.errors import BadRequest
from toolbox.lifetime import TaskSet

OUTPUT_GRACE = 0.1
"""Seconds that output is awaited after the shell's exit, if a process left behind holds the pipe."""
DISCONNECT_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for the command of a client that went away."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """A process that has ended. `end` is None when it never started."""

    output: Spool
    end: Exit | None = None
    timed_out: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code of a command as the contract has it: -1 when the shell was killed or never started."""
        return self.end.code if self.end is not None and self.end.code is not None else -1

    @property
    def cause(self) -> str | None:
        """Why it died, in words; None for an ordinary exit."""
        return self.end.cause if self.end is not None else None


class Commands:
    """Runs commands; what outlives its request (a pipe to drain, a tree to kill) is owned here."""

    def __init__(self, children: Children, environment: Environment, spool_dir: Path, output_limit: int) -> None:
        self._children = children
        self._environment = environment
        self._spool_dir = spool_dir
        self._output_limit = output_limit
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    @asynccontextmanager
    async def run(
        self, command: str, *, cwd: str | None, env: Mapping[str, str], timeout: float
    ) -> AsyncIterator[Outcome]:
        """Run `command` and yield its outcome; the output is gone afterwards.

        After `timeout` seconds (0: never) the whole tree is killed and the outcome says so. Cancelling kills the tree
        as well. Raises `BadRequest` for a blank command, a bad variable or a NUL in `cwd`.
        """
        if not command.strip():
            raise BadRequest("command must not be blank")
        check_variables(env)
        if cwd and "\0" in cwd:
            raise BadRequest("invalid cwd: it contains NUL")
        directory = self._environment.directory(cwd)
        what = f"{self._environment.shell} in {directory}"
        async with self.watch(lambda output: self._spawn(output, command, directory, env), what, timeout) as outcome:
            yield outcome

    @asynccontextmanager
    async def watch(self, spawn: Callable[[int], Child], what: str, timeout: float) -> AsyncIterator[Outcome]:
        """Start a process with `spawn`, which gets the descriptor for its output, and yield its outcome as `run` does.

        An `OSError` of `spawn` becomes the outcome too: `what` cannot be started.
        """
        pipe = OutputPipe(Spool(self._spool_dir, self._output_limit))
        try:
            yield await self._outcome(pipe, spawn, what, timeout)
        finally:
            if not pipe.at_end:
                self._tasks.start(self._drain(pipe), "drain output")
            pipe.spool.close()

    async def _drain(self, pipe: OutputPipe) -> None:
        try:
            await pipe.detach()
        finally:
            pipe.close()

    async def _outcome(self, pipe: OutputPipe, spawn: Callable[[int], Child], what: str, timeout: float) -> Outcome:
        try:
            child = spawn(pipe.write_end)
        except OSError as error:
            pipe.spool.append(f"cannot start {what}: {error.strerror}".encode())
            return Outcome(output=pipe.spool)
        finally:
            pipe.close_write_end()
        timed_out = False
        try:
            async with asyncio.timeout(timeout or None):
                end = await child.wait()
        except TimeoutError:
            timed_out = True
            end = await child.kill_tree(grace=0) or Exit()
        except asyncio.CancelledError:
            self._tasks.start(child.kill_tree(DISCONNECT_GRACE), f"kill tree of {child.pid}")
            raise
        await pipe.finish(OUTPUT_GRACE)
        return Outcome(output=pipe.spool, end=end, timed_out=timed_out)

    def _spawn(self, output: int, command: str, cwd: str, env: Mapping[str, str]) -> Child:
        shell = self._environment.shell
        # The script reaches the shell by a descriptor: no limit on its length, not to be seen in `ps`, and standard
        # input stays empty for what the script runs.
        script = os.memfd_create("command")
        try:
            # bash has opened the script anew when its first command runs; other shells cannot name a descriptor above
            # 9, there it stays open in what the script runs.
            close = f"exec {script}<&-; " if os.path.basename(shell) == "bash" else ""  # noqa: PTH119
            with open(script, "wb", closefd=False) as file:
                file.write((close + command).encode("utf-8", "surrogatepass"))
            return self._children.spawn(
                [shell, f"/dev/fd/{script}"],
                cwd=cwd,
                env=self._environment.child(env),
                stdout=output,
                stderr=output,
                pass_fds=(script,),
                label=command,
            )
        finally:
            os.close(script)
