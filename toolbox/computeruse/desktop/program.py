"""One program of the desktop, kept running: launched when what it needs is there, again when it ends by itself."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from toolbox.children.environment import Environment
from toolbox.children.process import Child, Children, Exit
from toolbox.computeruse.desktop.logfile import LogFile
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.errors import ToolboxError
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

READY_SECONDS = 20.0
"""How long a program may take until it can be used."""
PAUSE_SECONDS = 0.25
"""Before the first new launch; doubled after each one that does not last."""
MAX_PAUSE_SECONDS = 30.0
LASTING_SECONDS = 60.0
"""A program that ran so long is forgiven its end."""
START_ATTEMPTS = 2
"""Launches after which a desktop that starts calls a program failed."""
_LOOK_SECONDS = 0.01


@dataclass(kw_only=True)
class Stage:
    """What the programs of one run of the desktop share."""

    children: Children
    environment: Environment
    private: Path
    """A directory of this run, for what its programs read: the workload user cannot change what is in it."""
    runtime: Path
    """One for sockets and settings; the workload user's."""
    logs: Path
    home: str
    """The workload's home, or, where it has none, `runtime`."""
    variables: dict[str, str]
    """What programs on the desktop have in their environment beside what every child has."""

    def environ(self) -> dict[str, str]:
        """Return the variables of a program of the desktop itself."""
        private = {
            "HOME": self.home,
            "XDG_RUNTIME_DIR": str(self.runtime),
            "ICEAUTHORITY": str(self.runtime / "ICEauthority"),
            "XDG_CONFIG_DIRS": f"{self.runtime / 'xdg'}:{self.environment.child().get('XDG_CONFIG_DIRS', '/etc/xdg')}",
        }
        return self.environment.child({**self.variables, **private})


class LaunchFailed(DesktopUnavailable):
    """The program ended, or was not ready in time."""


class Program:
    """Base of the programs; a subclass says how one is launched and when it is ready."""

    name: ClassVar[str]
    priority: ClassVar[int]
    required: ClassVar[bool] = True
    """Whether the desktop cannot be without it."""

    def __init__(self, stage: Stage, needs: Sequence["Program"] = (), after: Sequence["Program"] = ()) -> None:
        self.stage = stage
        self.restarts = 0
        """Launches after the first."""
        self.problem = ""
        """Why it does not run, in words."""
        self.child: Child | None = None
        self.settled = asyncio.Event()
        """Set while it is ready, or has failed more than once."""
        self.needs = needs
        self._after = after
        self._output = LogFile(stage.logs / f"{self.name}.log")
        self._errors = LogFile(stage.logs / f"{self.name}.err")
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._down.set()
        self._ended = asyncio.Event()
        self._ended.set()
        self._dependents: list[Program] = []
        for need in needs:
            need._dependents.append(self)  # noqa: SLF001 -- of its own kind
        self._again = asyncio.Event()

    async def launch(self) -> None:
        """Start the process by `spawn` and return when it can be used. Raises `LaunchFailed`, `OSError`."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The process id, None when it does not run."""
        return self.child.pid if self.child is not None and self.child.exit is None else None

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self._up.is_set() and self.pid is not None

    def restart(self) -> None:
        """Launch it anew: end the one that runs, wait no longer before the next. `settled` tells the outcome."""
        self.settled.clear()
        self._again.set()

    async def until_ready(self) -> None:
        """Wait until it can be used."""
        await self._up.wait()

    async def until_gone(self) -> None:
        """Wait until it cannot be used any more."""
        await self._down.wait()

    async def run(self) -> None:
        """Keep it running, for ever."""
        failures, launches = 0, 0
        for program in self._after:
            await program.settled.wait()
        while True:
            while not all(need.ready for need in self.needs):
                for need in self.needs:
                    await need.until_ready()
                await asyncio.sleep(0)  # one may have gone again in between
            for dependent in self._dependents:
                await dependent._ended.wait()  # noqa: SLF001 -- of what was there before, nothing is used any more
            self._again.clear()
            self.restarts, launches = launches, launches + 1
            started = time.monotonic()
            if await self._live() or not all(need.ready for need in self.needs):
                failures = 0  # it could not help it
                continue
            failures = 1 if time.monotonic() - started > LASTING_SECONDS else failures + 1
            if failures >= START_ATTEMPTS:
                self.settled.set()
            pause = min(PAUSE_SECONDS * 2 ** (failures - 1), MAX_PAUSE_SECONDS)
            log.warning("%s: %s; again in %.2f s", self.name, self.problem, pause)
            await self._pause(pause)

    async def _live(self) -> bool:
        """Launch it and wait for its end; tell whether that was wanted."""
        wanted = False
        self._ended.clear()
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self.launch()
            self.problem = ""
            self._down.clear()
            self._up.set()
            self.settled.set()
            wanted = await self._until_over()
        except TimeoutError:
            self.problem = f"{self.name} was not ready in {READY_SECONDS:.0f} s"
        except ToolboxError as error:
            self.problem = error.message
        except OSError as error:
            self.problem = f"{self.name} cannot be started: {error.strerror}: {error.filename}"
        finally:
            if self._up.is_set():
                self.settled.clear()
            self._up.clear()
            self._down.set()
            await self._end_it_all()
            self._ended.set()
        return wanted

    async def _end_it_all(self) -> None:
        """End it; a desktop that is stopped meanwhile waits for that."""
        ending = TaskSet()
        ending.start(self.end(), f"end of {self.name}")
        try:
            await ending.finish()
        except asyncio.CancelledError:
            await ending.finish()
            raise

    async def _until_over(self) -> bool:
        if self.child is None:
            return False
        async with TaskSet() as tasks:
            waits: list[asyncio.Future[Any]] = [
                self.child.ended,
                tasks.start(self._again.wait(), f"{self.name} restart"),
            ]
            waits += [tasks.start(need._down.wait(), f"{self.name} need") for need in self.needs]  # noqa: SLF001
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if self.child.exit is None:
            return True
        self.problem = f"{self.name} {_how(self.child.exit)}"
        return False

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            return

    async def end(self) -> None:
        """End the process and all that it started."""
        if self.child is not None:
            await self.child.kill_tree()

    async def spawn(
        self, argv: Sequence[str], *, more: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
    ) -> Child:
        """Start the process; its output goes to the log files. Raises `OSError`."""
        environ = self.stage.environ() | dict(more or {})
        async with self._log_files() as (output, errors):
            self.child = self.stage.children.spawn(
                argv,
                cwd=self.stage.home,
                env=environ,
                stdout=output,
                stderr=errors,
                pass_fds=pass_fds,
                label=f"desktop: {argv[0]}",
            )
        return self.child

    async def spawn_and_hear(self, argv: Callable[[int], Sequence[str]]) -> str:
        """Start the process with a descriptor to say one line on; return that, or "" when it ends before."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            try:
                await self.spawn(argv(write_end), pass_fds=(write_end,))
            finally:
                os.close(write_end)
            return await _read_line(read_end)
        finally:
            os.close(read_end)

    @asynccontextmanager
    async def _log_files(self) -> AsyncIterator[tuple[int, int]]:
        output, errors = await asyncio.to_thread(lambda: (self._output.open(), self._errors.open()))
        try:
            yield output, errors
        finally:
            os.close(output)
            os.close(errors)

    async def until(self, there: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something is there. Raises `LaunchFailed` when the process ends before."""
        while not await there():
            if self.child is None or self.child.exit is not None:
                raise await self.failed()
            await asyncio.sleep(_LOOK_SECONDS)

    async def failed(self) -> LaunchFailed:
        """Return the error of a process that has ended, with the last it said."""
        how = _how(self.child.exit) if self.child is not None and self.child.exit is not None else "ended"
        said = await asyncio.to_thread(self._errors.last_line)
        return LaunchFailed(f"{self.name} {how}" + (f": {said}" if said else ""))

    def trim_logs(self) -> None:
        """Keep the log files to their size. Blocks."""
        self._output.trim()
        self._errors.trim()


def _how(exit_: Exit) -> str:
    return f"ended: {exit_.cause}" if exit_.cause else f"ended with exit code {exit_.code}"


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def _read_line(descriptor: int) -> str:
    loop = asyncio.get_running_loop()
    text = b""
    while not text.endswith(b"\n"):
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, _resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        data = os.read(descriptor, 4096)
        if not data:
            return ""
        text += data
    return text.decode().strip()
