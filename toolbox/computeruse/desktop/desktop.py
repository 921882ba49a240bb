"""The desktop: an X server and what runs on it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from toolbox.children.environment import Environment
from toolbox.children.process import Child, Children
from toolbox.computeruse.desktop import ice
from toolbox.computeruse.desktop.logfile import LogFile
from toolbox.computeruse.desktop.opening import Opener
from toolbox.computeruse.desktop.program import Program
from toolbox.computeruse.desktop.programs import Accessibility, Novnc, Session, SessionBus, X11vnc, Xvfb
from toolbox.computeruse.desktop.run import Run
from toolbox.computeruse.desktop.size import Size
from toolbox.computeruse.errors import DesktopUnavailable, UnknownProcess
from toolbox.computeruse.xserver import XServer
from toolbox.config import ServeConfig
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

CALLBACK_SECONDS = 5.0
"""How long what must happen before a stop may take."""
KINDS: tuple[type[Program], ...] = (Xvfb, SessionBus, Session, Accessibility, X11vnc, Novnc)


class Desktop:
    """The one desktop of this sandbox. Leaving the daemon stops it."""

    def __init__(self, children: Children, environment: Environment, config: ServeConfig, directory: Path) -> None:
        self._children = children
        self._environment = environment
        self._config = config
        self._directory = directory
        self._run: Run | None = None
        self._starting: asyncio.Task[DesktopUnavailable | None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._tasks = TaskSet()
        self._before_stop: list[Callable[[], Awaitable[None]]] = []
        self._opener = Opener(children, environment, config.work_dir)
        self.xserver = XServer(lambda: self.display)

    async def __aenter__(self) -> Self:
        if self._config.desktop == "xfce4":  # a daemon may have been killed with its session
            await asyncio.to_thread(ice.sweep, self._environment.child())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._tasks.close()
        await self.xserver.close()

    @property
    def started(self) -> bool:
        """Tell whether there is an X server."""
        return self._run is not None and self._run.xvfb.pid is not None

    @property
    def display(self) -> str:
        """The X display, as `$DISPLAY` has it. Raises `DesktopUnavailable`."""
        run = self.run
        if run.xvfb.pid is None or "DISPLAY" not in run.variables:
            raise DesktopUnavailable("the X server has gone; it is being started again")
        return run.variables["DISPLAY"]

    @property
    def run(self) -> Run:
        """What was started. Raises `DesktopUnavailable`."""
        if self._run is None:
            raise DesktopUnavailable
        return self._run

    def environ(self) -> dict[str, str]:
        """Return the variables of a program on the desktop. Raises `DesktopUnavailable`."""
        return self._environment.child({**self.run.variables, "DISPLAY": self.display})

    def before_stop(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have `callback` called while the desktop is still there, each time before it is stopped."""
        self._before_stop.append(callback)

    async def start(self) -> None:
        """Start what is not running and wait until it can be used; everybody who asks waits for the same start.

        Raises `DesktopUnavailable`, with `details`, when something cannot start. Then nothing is left running,
        unless the desktop ran before.
        """
        while self._stopping is not None:
            await asyncio.shield(self._stopping)
        if self._starting is None:
            # A client that goes away does not end this half-way.
            self._starting = self._tasks.start(self._start(), "desktop start")
            self._starting.add_done_callback(self._start_over)
        starting = self._starting
        try:
            failure = await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise DesktopUnavailable("the desktop was stopped while it started") from None
            raise
        if failure is not None:
            raise failure

    def _start_over(self, _: object) -> None:
        self._starting = None

    async def _start(self) -> DesktopUnavailable | None:
        """Start the desktop, or what has ended of it; return why that cannot be."""
        begun = self._run is not None
        try:
            if begun:
                await self.run.recover()
            else:
                await self._begin()
                await self.run.up()
        except DesktopUnavailable as failure:
            if not begun and self._run is not None:
                await self._run.down()
                self._run = None
            return failure
        return None

    async def _begin(self) -> None:
        beginning = self._tasks.start(
            Run.begin(self._children, self._environment, self._config, self._directory, self.xserver), "desktop begin"
        )
        try:
            self._run = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # What it has made so far must be known to be removed.
            self._run = await beginning
            raise

    async def stop(self) -> None:
        """Stop everything, a start that is under way too."""
        if self._stopping is None:
            if self._run is None and self._starting is None:
                return
            self._stopping = self._tasks.start(self._stop(), "desktop stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        try:
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.wait([self._starting])
            if self._run is not None:
                await self._call_back()
                await self._run.down()
        finally:
            self._run = None
            self._stopping = None

    async def _call_back(self) -> None:
        for callback in self._before_stop:
            try:
                async with asyncio.timeout(CALLBACK_SECONDS):
                    await callback()
            except DesktopUnavailable:
                continue  # there is nothing left to do it on
            except Exception:
                log.exception("before the desktop's stop")

    def processes(self) -> dict[type[Program], Program | None]:
        """Return each process, None while it is not started."""
        programs = self._run.programs if self._run is not None else {}
        return {kind: programs.get(kind.name) for kind in KINDS}

    @property
    def status(self) -> str:
        """Active (all that is required runs), partial or inactive."""
        programs = list(self._run.programs.values()) if self._run is not None else []
        if not any(program.pid for program in programs):
            return "inactive"
        return "active" if all(program.pid or not program.required for program in programs) else "partial"

    def process(self, name: str) -> Program | None:
        """Return a process, None while it does not run. Raises `UnknownProcess`."""
        for kind, program in self.processes().items():
            if kind.name == name:
                return program
        raise UnknownProcess(name)

    async def restart(self, name: str) -> None:
        """Restart one process, and what depends on it, and wait. Raises `UnknownProcess`, `DesktopUnavailable`."""
        program = self.process(name)
        if program is None:
            raise DesktopUnavailable
        program.restart()
        await self.run.settle()

    async def logs(self, name: str, suffix: str) -> str:
        """Return what a process printed, "log" or "err"; "" when there is nothing. Raises `UnknownProcess`."""
        self.process(name)
        return await asyncio.to_thread(LogFile(self._directory / f"{name}.{suffix}").text)

    async def resize(self, size: Size) -> None:
        """Change the size of the screen. Raises `BadRequest`, `DesktopUnavailable`."""
        if not self.run.xvfb.ready:
            raise DesktopUnavailable(self.run.xvfb.problem or "the X server is not ready")
        await self.run.xvfb.resize(size)

    async def open(self, target: str, args: list[str]) -> Child:
        """Open a file, a URL or an application. Raises `BadRequest`, `NotFound`, `DesktopUnavailable`."""
        run = self.run
        child = await self._opener.open(target, args, self.environ())
        run.opened.add(child)
        child.ended.add_done_callback(lambda _: run.opened.discard(child))
        return child
