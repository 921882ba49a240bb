"""The desktop: an X server and what runs on it."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from toolbox.children.environment import Environment
from toolbox.children.process import Child, Children
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.computeruse.xserver import XServer
from toolbox.config import ServeConfig


class Desktop:
    """The one desktop of this sandbox. Leaving the daemon stops it."""

    def __init__(self, children: Children, environment: Environment, config: ServeConfig, directory: Path) -> None:
        self._children = children
        self._environment = environment
        self._config = config
        self._directory = directory
        self._display = ""
        self._xvfb: Child | None = None
        self._before_stop: list[Callable[[], Awaitable[None]]] = []
        self.xserver = XServer(lambda: self.display)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.xserver.close()

    @property
    def started(self) -> bool:
        """Tell whether there is a desktop."""
        return self._xvfb is not None and self._xvfb.exit is None

    @property
    def display(self) -> str:
        """The X display, as `$DISPLAY` has it. Raises `DesktopUnavailable`."""
        if not self.started:
            raise DesktopUnavailable
        return self._display

    def environ(self) -> dict[str, str]:
        """Return the variables of a program on the desktop. Raises `DesktopUnavailable`."""
        return self._environment.child({"DISPLAY": self.display})

    def before_stop(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Have `callback` called while the desktop is still there, each time before it is stopped."""
        self._before_stop.append(callback)

    async def start(self) -> None:
        """Start what is not running."""
        if self.started:
            return
        read_end, write_end = os.pipe()
        size = self._config.resolution
        try:
            self._xvfb = self._children.spawn(
                ["Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset"],
                cwd="/",
                env=self._environment.child(),
                pass_fds=(write_end,),
                stderr=subprocess.DEVNULL,
            )
            os.close(write_end)
            # The whole line: the server dies if it cannot write the end of it.
            with os.fdopen(read_end, closefd=False) as line:
                self._display = f":{(await asyncio.to_thread(line.readline)).strip()}"
        finally:
            os.close(read_end)

    async def stop(self) -> None:
        """Stop everything."""
        if self._xvfb is not None:
            for callback in self._before_stop:
                await callback()
            self.xserver.disconnect()
            await self._xvfb.kill_tree()
            self._xvfb = None
