"""Puts computer use together: the desktop, and the parts that need one."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from toolbox.children.environment import Environment
from toolbox.children.process import Children
from toolbox.computeruse.clipboard.clipboard import Clipboard
from toolbox.computeruse.desktop.desktop import Desktop
from toolbox.computeruse.windows.windows import Windows
from toolbox.config import ServeConfig


class ComputerUse:
    """The services of the area, entered and left as one."""

    def __init__(self, children: Children, environment: Environment, config: ServeConfig, directory: Path) -> None:
        self.desktop = Desktop(children, environment, config, directory)
        self.clipboard = Clipboard(lambda: self.desktop.display, self.desktop.xserver)
        self.desktop.before_stop(self.clipboard.close)
        self.services: tuple[Any, ...] = (self.desktop, Windows(self.desktop.xserver), self.clipboard)
        """What endpoints can ask for."""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.clipboard)
        await self._stack.enter_async_context(self.desktop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
