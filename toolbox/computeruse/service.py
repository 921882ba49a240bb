"""Puts computer use together: the desktop, and the parts that need one."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from toolbox.children.environment import Environment
from toolbox.children.process import Children
from toolbox.computeruse.a11y.accessibility import Accessibility
from toolbox.computeruse.clipboard.clipboard import Clipboard
from toolbox.computeruse.desktop.desktop import Desktop
from toolbox.computeruse.input.input import Input
from toolbox.computeruse.screen.screen import Screen
from toolbox.computeruse.windows.windows import Windows
from toolbox.config import ServeConfig


class ComputerUse:
    """The services of the area, entered and left as one."""

    def __init__(self, children: Children, environment: Environment, config: ServeConfig, directory: Path) -> None:
        self.desktop = Desktop(children, environment, config, directory)
        self.screen = Screen(self.desktop)
        self.input = Input(self.desktop)
        self.accessibility = Accessibility(self._session_bus, self.desktop.xserver)
        self.desktop.before_stop(self.accessibility.disconnect)
        self.clipboard = Clipboard(lambda: self.desktop.display, self.desktop.xserver)
        self.desktop.before_stop(self.clipboard.close)
        self.services: tuple[Any, ...] = (
            self.desktop,
            self.screen,
            self.input,
            Windows(self.desktop.xserver),
            self.clipboard,
            self.accessibility,
        )
        """What endpoints can ask for."""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.screen)  # left after the desktop, as it asks for
        await self._stack.enter_async_context(self.clipboard)
        await self._stack.enter_async_context(self.desktop)
        await self._stack.enter_async_context(self.accessibility)
        await self._stack.enter_async_context(self.input)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def stop(self) -> None:
        """Stop the desktop while everything that uses it is still there."""
        await self.desktop.stop()

    def _session_bus(self) -> str:
        return self.desktop.environ().get("DBUS_SESSION_BUS_ADDRESS", "")
