"""What programs tell assistive technology: their user interface as a tree, and acting on it."""

import asyncio
import importlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from toolbox.computeruse.a11y import atspi
from toolbox.computeruse.a11y.application import Node, Reference
from toolbox.computeruse.a11y.errors import (
    AccessibilityUnavailable,
    ActionNotSupported,
    CallFailed,
    InvalidRequest,
    InvalidScope,
    NodeMissing,
    NotAnswering,
    RootMissing,
)
from toolbox.computeruse.a11y.filters import Filter
from toolbox.computeruse.a11y.focus import active_pid
from toolbox.computeruse.a11y.walk import Walk, preorder
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.computeruse.xserver import XServer

if TYPE_CHECKING:
    from toolbox.computeruse.a11y.bus import AccessibilityBus

_WINDOW_DEPTH = 2
"""Of windows below the desktop: desktop, program, window."""
_ACTIVE = atspi.state_bit("active") | atspi.state_bit("showing")


class Accessibility:
    """The accessibility of the desktop's programs. Every method raises `AccessibilityUnavailable` without them."""

    def __init__(self, session_address: Callable[[], str], xserver: XServer) -> None:
        self._session_address = session_address
        """Returns the address of the desktop's session bus, or "". Raises `DesktopUnavailable`."""
        self._xserver = xserver
        self._bus: AccessibilityBus | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def disconnect(self) -> None:
        """End the connection; the next call makes it anew."""
        if self._bus is not None:
            await self._bus.close()

    async def tree(self, scope: str, pid: int, max_depth: int) -> tuple[Node, bool]:
        """Return the root of a scope with what is below it, and whether that is not all.

        Raises `InvalidScope`, `InvalidRequest` and `RootMissing`.
        """
        scope = _check_scope(scope, pid)
        walk, root = await self._walk(scope, pid, max_depth)
        await walk.details(preorder(root))
        return root, walk.truncated

    async def find(self, scope: str, pid: int, filter_: Filter) -> tuple[list[Node], bool]:
        """Return the nodes of a scope that pass, in the order of the tree, and whether there may be more.

        Raises as `tree`.
        """
        scope = _check_scope(scope, pid)
        walk, root = await self._walk(scope, pid, -1)
        found, more = await filter_.choose(preorder(root))
        await walk.details(found)
        return found, more or walk.truncated

    async def focus(self, node_id: str) -> None:
        """Give a node the keyboard focus. Raises `InvalidRequest`, `NodeMissing` and `ActionNotSupported`."""
        async with self._node(node_id) as (bus, name, path, interfaces):
            if atspi.COMPONENT not in interfaces or not await bus.call(
                name, path, atspi.COMPONENT, "GrabFocus", returns=("b",)
            ):
                raise ActionNotSupported("the node does not take the focus")

    async def invoke(self, node_id: str, action: str) -> None:
        """Do an action of a node, named without regard to case, or its first. Raises as `focus`."""
        async with self._node(node_id) as (bus, name, path, interfaces):
            if atspi.ACTION not in interfaces:
                raise ActionNotSupported("the node has no actions")
            index = await _action_index(bus, name, path, action)
            if not await bus.call(name, path, atspi.ACTION, "DoAction", "i", [index], returns=("b",)):
                raise ActionNotSupported("the node does not do that now")

    async def set_value(self, node_id: str, value: str) -> None:
        """Replace the text of a node, or set its number. Raises as `focus`."""
        if "\0" in value:
            raise InvalidRequest("invalid value: it contains NUL")
        async with self._node(node_id) as (bus, name, path, interfaces):
            if atspi.EDITABLE_TEXT in interfaces:
                if not await bus.call(name, path, atspi.EDITABLE_TEXT, "SetTextContents", "s", [value], returns=("b",)):
                    raise ActionNotSupported("the text cannot be changed")
            elif atspi.VALUE in interfaces:
                await bus.set_property(name, path, atspi.VALUE, "CurrentValue", _number(value))
            else:
                raise ActionNotSupported("the node has neither a text nor a number that can be changed")

    async def _connected(self) -> "AccessibilityBus":
        address = self._address()
        if self._bus is None:
            try:
                module = await asyncio.to_thread(importlib.import_module, "toolbox.computeruse.a11y.bus")
            except ImportError as error:
                raise AccessibilityUnavailable(
                    f"accessibility needs the extra `desktop` of sandbox-toolbox: {error}"
                ) from None
            if self._bus is None:
                self._bus = module.AccessibilityBus()
        await self._bus.connect(address)
        return self._bus

    def _address(self) -> str:
        try:
            address = self._session_address()
        except DesktopUnavailable as error:
            raise AccessibilityUnavailable(error.message) from None
        if not address:
            raise AccessibilityUnavailable("the desktop has no session bus")
        return address

    async def _walk(self, scope: str, pid: int, max_depth: int) -> tuple[Walk, Node]:
        bus = await self._connected()
        try:
            name, path = await self._root(bus, scope, pid)
        except CallFailed as error:
            raise AccessibilityUnavailable(f"the registry of accessible programs failed: {error}") from None
        except NotAnswering:
            raise AccessibilityUnavailable("the registry of accessible programs does not answer") from None
        root, walk = Node(name, path), Walk(bus, max_depth)
        await walk.tree(root, desktop=scope == "all")
        if not root.known and walk.truncated:
            raise AccessibilityUnavailable("the program does not answer")
        if not root.known:
            raise RootMissing("the program has ended")
        return walk, root

    async def _root(self, bus: "AccessibilityBus", scope: str, pid: int) -> Reference:
        if scope == "all":
            return atspi.REGISTRY, atspi.ROOT_PATH
        if scope == "focused":
            active = await self._active_pid()
            if active is None:
                return await _active_program(bus)
            pid = active
        for program in await bus.call(
            atspi.REGISTRY, atspi.ROOT_PATH, atspi.ACCESSIBLE, "GetChildren", returns=("a(so)",)
        ):
            if await bus.pid(program[0]) == pid:
                return program[0], program[1]
        whose = "the active window's process" if scope == "focused" else "process"
        raise RootMissing(f"{whose} {pid} tells nothing to assistive technology")

    async def _active_pid(self) -> int | None:
        try:
            return await self._xserver.run(active_pid)
        except DesktopUnavailable as error:
            raise AccessibilityUnavailable(error.message) from None

    @asynccontextmanager
    async def _node(self, node_id: str) -> AsyncIterator[tuple["AccessibilityBus", str, str, list[str]]]:
        """Give what is needed to call a node: the bus, its name there and its path, and its interfaces."""
        try:
            name, path = atspi.parse_id(node_id)
        except ValueError as error:
            raise InvalidRequest(f"invalid node id {node_id!r}: {error}") from None
        bus = await self._connected()
        try:
            yield bus, name, path, await bus.call(name, path, atspi.ACCESSIBLE, "GetInterfaces", returns=("as",))
        except CallFailed:
            raise NodeMissing(f"no such node: {node_id}") from None
        except NotAnswering:
            raise AccessibilityUnavailable("the program does not answer") from None


def _check_scope(scope: str, pid: int) -> str:
    normal = scope.strip().lower() or "focused"
    if normal not in {"focused", "pid", "all"}:
        raise InvalidScope(f"invalid accessibility scope {scope!r}: expected focused, pid or all")
    if normal == "pid" and pid <= 0:
        raise InvalidRequest("pid must be positive")
    return normal


async def _active_program(bus: "AccessibilityBus") -> Reference:
    """Return the program that says itself that a window of its is active: there may be no window manager."""
    desktop, walk = Node(atspi.REGISTRY, atspi.ROOT_PATH), Walk(bus, _WINDOW_DEPTH)
    await walk.tree(desktop, desktop=True)
    active = [
        (program, window)
        for program in desktop.children
        for window in program.children
        if window.known and window.states & _ACTIVE == _ACTIVE
    ]
    await walk.details(window for _, window in active)
    for program, window in active:
        x, y, width, height = window.bounds
        if x + width > 0 and y + height > 0:  # window managers have one of their own out there
            return program.name, program.path
    raise RootMissing("no window is active")


async def _action_index(bus: "AccessibilityBus", name: str, path: str, action: str) -> int:
    """Return the number of an action. Raises `ActionNotSupported`."""
    actions = await bus.call(name, path, atspi.ACTION, "GetActions", returns=("a(sss)",))
    known = [
        (await bus.call(name, path, atspi.ACTION, "GetName", "i", [index], returns=("s",)), title)
        for index, (title, *_) in enumerate(actions)
    ]
    wanted = action.strip().casefold()
    for index, names in enumerate(known):
        if not wanted or wanted in (each.casefold() for each in names):
            return index
    have = f"it has {', '.join(each for each, _ in known)}" if known else "it has none now"
    raise ActionNotSupported(f"the node has no action {action!r}: {have}" if action else f"no action: {have}")


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ActionNotSupported(f"the node takes a number, not {value!r}")
    return number
