"""One run of the desktop, from start to stop: its programs, its directory, its variables."""

import asyncio
import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Self

from toolbox.children.environment import Environment
from toolbox.children.process import Child, Children
from toolbox.computeruse.desktop import runtime
from toolbox.computeruse.desktop.program import Program, Stage
from toolbox.computeruse.desktop.programs import (
    NOVNC,
    Accessibility,
    Novnc,
    Session,
    SessionBus,
    X11vnc,
    Xvfb,
    find_launcher,
    require,
)
from toolbox.computeruse.desktop.size import Size
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.computeruse.xserver import XServer
from toolbox.config import ServeConfig
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

TRIM_SECONDS = 5.0
"""How often log files are looked at for their size."""
ACCESSIBLE = {
    "NO_AT_BRIDGE": "0",
    "GTK_MODULES": "gail:atk-bridge",
    "QT_ACCESSIBILITY": "1",
    "QT_LINUX_ACCESSIBILITY_ALWAYS_ON": "1",
}
"""Variables by which toolkits show their widgets to assistive technology."""


class Run:
    """A desktop that is being started, runs, or is being stopped. Made by `begin`."""

    def __init__(self, children: Children, environment: Environment, stage: Stage, xserver: XServer) -> None:
        self._children = children
        self._environment = environment
        self._stage = stage
        self._xserver = xserver
        self._tasks = TaskSet()
        self._before = {name: value for name, value in environment.child().items() if name in _NAMES}
        self.opened: set[Child] = set()
        """What was opened on the desktop, and lives."""
        self.programs: dict[str, Program] = {}
        self.xvfb: Xvfb
        self.x11vnc: X11vnc | None = None
        self.novnc: Novnc | None = None

    @classmethod
    async def begin(
        cls, children: Children, environment: Environment, config: ServeConfig, directory: Path, xserver: XServer
    ) -> Self:
        """Make the directory and the programs; nothing runs yet. Raises `DesktopUnavailable`, `OSError`."""
        path = environment.child().get("PATH", os.defpath)
        await asyncio.to_thread(require, config.desktop, path)
        launcher = await asyncio.to_thread(find_launcher, path)
        private, place = await asyncio.to_thread(runtime.make_runtime, children.scratch)
        home = environment.home if await asyncio.to_thread(os.path.isdir, environment.home) else str(place)
        bus = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={place / 'bus'}"}
        stage = Stage(
            children=children,
            environment=environment,
            private=private,
            runtime=place,
            logs=directory,
            home=home,
            variables=ACCESSIBLE | bus,
        )
        run = cls(children, environment, stage, xserver)
        run._furnish(config, launcher)
        if run.x11vnc is not None:
            await asyncio.to_thread(runtime.make_web_root, private / "novnc", NOVNC, run.x11vnc.password)
        return run

    def _furnish(self, config: ServeConfig, launcher: Path | None) -> None:
        stage, xserver = self._stage, self._xserver
        self.xvfb = Xvfb(stage, xserver, config.display, Size.parse(config.resolution))
        bus = SessionBus(stage, (self.xvfb,))
        programs: list[Program] = [self.xvfb, bus]
        if config.desktop != "none":
            atspi = [Accessibility(stage, (self.xvfb, bus), xserver, launcher)] if launcher else []
            session = Session(stage, (self.xvfb, bus), atspi, xserver, config.desktop)
            self.x11vnc = X11vnc(stage, (self.xvfb,), config.vnc_port)
            self.novnc = Novnc(stage, self.x11vnc, config.novnc_port)
            programs += [*atspi, session, self.x11vnc, self.novnc]
        self.programs = {program.name: program for program in programs}

    async def up(self) -> None:
        """Launch everything and wait until it is ready, or has failed. Raises `DesktopUnavailable`."""
        for program in self.programs.values():
            self._tasks.start(program.run(), f"desktop: {program.name}")
        self._tasks.start(self._trim_logs(), "desktop: log files")
        self._tasks.start(self._announce(), "desktop: environment")
        await self.settle()

    async def settle(self) -> None:
        """Wait until every program is ready or has failed. Raises `DesktopUnavailable` naming those that failed."""
        failed: list[Program] = []
        for program in self.programs.values():
            if set(failed).isdisjoint(program.needs):  # else it is never launched
                await program.settled.wait()
                if not program.ready and program.required:
                    failed.append(program)
        if failed:
            details = f"failed to start: [{' '.join(program.name for program in failed)}]"
            reasons = "; ".join(program.problem for program in failed)
            raise DesktopUnavailable(f"Failed to start computer use: {reasons}", details=f"{details}: {reasons}")

    async def recover(self) -> None:
        """Launch at once what waits to be launched again, and wait for it. Raises as `settle`."""
        for program in self.programs.values():
            if program.pid is None:
                program.restart()
        await self.settle()

    @property
    def variables(self) -> dict[str, str]:
        """What later children of the daemon have in their environment."""
        return self._stage.variables

    @property
    def directory(self) -> Path:
        """Where the sockets are."""
        return self._stage.runtime

    async def _announce(self) -> None:
        while True:
            await self.xvfb.until_ready()
            self._environment.update(self.variables, (), "")
            await self.xvfb.until_gone()
            self._xserver.disconnect()

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            for program in self.programs.values():
                await asyncio.to_thread(program.trim_logs)

    async def down(self) -> None:
        """End everything and leave nothing."""
        self._environment.update(self._before, _NAMES, "")
        self._xserver.disconnect()
        # Each of the tasks ends its program's processes.
        ending = [child.kill_tree() for child in self.opened]
        await asyncio.gather(self._tasks.close(), *ending, return_exceptions=True)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(shutil.rmtree, self._stage.private)


_NAMES = frozenset({"DISPLAY", "DBUS_SESSION_BUS_ADDRESS", *ACCESSIBLE})
