"""The objects of one program, read through its cache where it keeps one, and singly where not."""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolbox.computeruse.a11y import atspi
from toolbox.computeruse.a11y.errors import CallFailed

if TYPE_CHECKING:
    from toolbox.computeruse.a11y.bus import AccessibilityBus

MAX_TEXT = 4000
"""Characters of an object's text that are read."""
_UNPLACED = -(2**31)
"""Coordinate by which GTK says that a widget is not on the screen; for some it says so by a negative size."""
_CACHE_SIGNATURES = ("a((so)(so)(so)iiassusau)", "a((so)(so)(so)a(so)assusau)")  # the latter up to AT-SPI 2.38

Reference = tuple[str, str]
"""Bus name and path of an object."""


@dataclass(slots=True, eq=False)
class Node:
    """An object of a program's user interface, as far as it has been read."""

    name: str
    """Of its program, on the bus."""
    path: str
    known: bool = False
    """It has answered; the others have gone meanwhile, or their program hangs."""
    role_number: int = atspi.ROLE_EXTENDED
    role: str = ""
    title: str = ""
    description: str = ""
    states: int = 0
    interfaces: frozenset[str] = frozenset()
    bounds: tuple[int, int, int, int] = (0, 0, 0, 0)
    actions: list[str] = field(default_factory=list)
    value: str | None = None
    children: list["Node"] = field(default_factory=list)

    @property
    def id(self) -> str:
        """What clients call it."""
        return f"{self.name}:{self.path}"


@dataclass(slots=True)
class _Item:
    """An object in the cache."""

    parent: Reference
    index: int
    child_count: int
    children: list[Reference] | None
    rest: tuple[list[str], str, int, str, list[int]]


async def all_of(coroutines: "list[Coroutine[Any, Any, Any]]") -> list[Any]:
    """Return all results; what the first failed one raised is raised once all have ended."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class Application:
    """A program on the accessibility bus, for one walk."""

    def __init__(self, bus: "AccessibilityBus", name: str) -> None:
        self._bus = bus
        self.name = name
        self._items: dict[Reference, _Item] = {}
        self._children: dict[Reference, list[Reference]] = {}

    async def load(self) -> None:
        """Take over the program's cache. Raises `NotAnswering`."""
        try:
            items = await self._bus.call(
                self.name, atspi.CACHE_PATH, atspi.CACHE, "GetItems", returns=_CACHE_SIGNATURES
            )
        except CallFailed:
            return
        self._items = dict(map(_item, items))
        children: dict[Reference, dict[int, Reference]] = defaultdict(dict)
        for reference, item in self._items.items():
            children[item.parent][item.index] = reference
        for reference, item in self._items.items():
            # The cache may know a part of the children only, and of menus not even how many they are.
            found = children.get(reference, {})
            if item.children is not None:
                self._children[reference] = item.children
            elif len(found) == item.child_count and set(found) == set(range(item.child_count)):
                self._children[reference] = [found[index] for index in range(item.child_count)]

    def recall(self, node: Node) -> list[Reference] | None:
        """Fill `node` from the cache; return its children, or None where only the program knows (`read`)."""
        item = self._items.get((node.name, node.path))
        if item is None:
            return None
        interfaces, node.title, node.role_number, node.description, states = item.rest
        node.interfaces, node.states, node.known = frozenset(interfaces), atspi.state_bits(states), True
        return self._children.get((node.name, node.path))

    async def read(self, node: Node) -> list[Reference]:
        """Ask the program for what `recall` has not filled; return the children.

        Raises `CallFailed` when the object has gone, and `NotAnswering`.
        """
        children = self._ask(node, "GetChildren", "a(so)")
        if node.known:
            return await children  # type: ignore[no-any-return]
        answers = await all_of(
            [
                children,
                self._ask(node, "GetRoleName", "s"),
                self._ask(node, "GetState", "au"),
                self._ask(node, "GetInterfaces", "as"),
                self._bus.get_property(node.name, node.path, atspi.ACCESSIBLE, "Name", "s"),
                self._bus.get_property(node.name, node.path, atspi.ACCESSIBLE, "Description", "s"),
            ]
        )
        references, node.role, states, interfaces, node.title, node.description = answers
        node.interfaces, node.states, node.known = frozenset(interfaces), atspi.state_bits(states), True
        return references  # type: ignore[no-any-return]

    def _ask(self, node: Node, member: str, returns: str) -> Coroutine[Any, Any, Any]:
        return self._bus.call(node.name, node.path, atspi.ACCESSIBLE, member, returns=(returns,))

    async def read_role(self, node: Node) -> None:
        """Fill the name of the role. Raises `CallFailed` and `NotAnswering`."""
        node.role = await self._ask(node, "GetRoleName", "s")

    async def read_bounds(self, node: Node) -> None:
        """Fill where the object is on the screen. Raises `CallFailed` and `NotAnswering`."""
        place = await self._bus.call(
            node.name,
            node.path,
            atspi.COMPONENT,
            "GetExtents",
            "u",
            [atspi.SCREEN_COORDINATES],
            returns=("(iiii)",),
        )
        x, y, width, height = place
        if _UNPLACED not in (x, y) and min(width, height) >= 0:
            node.bounds = (x, y, width, height)

    async def read_actions(self, node: Node) -> None:
        """Fill the names of the actions, in the program's language. Raises `CallFailed` and `NotAnswering`."""
        actions = await self._bus.call(node.name, node.path, atspi.ACTION, "GetActions", returns=("a(sss)",))
        node.actions = [title for title, _, _ in actions]

    async def action_name(self, node: Node, index: int) -> str:
        """Return the name of an action, the same in every language. Raises `CallFailed` and `NotAnswering`."""
        name: str = await self._bus.call(node.name, node.path, atspi.ACTION, "GetName", "i", [index], returns=("s",))
        return name

    async def read_text(self, node: Node) -> None:
        """Fill the text. Raises `CallFailed` and `NotAnswering`."""
        length = await self._bus.get_property(node.name, node.path, atspi.TEXT, "CharacterCount", "i")
        body = [0, min(length, MAX_TEXT)]
        node.value = await self._bus.call(node.name, node.path, atspi.TEXT, "GetText", "ii", body, returns=("s",))

    async def read_number(self, node: Node) -> None:
        """Fill the number that a slider, progress bar or such has. Raises `CallFailed` and `NotAnswering`."""
        number: float = await self._bus.get_property(node.name, node.path, atspi.VALUE, "CurrentValue", "d")
        node.value = f"{number:.15g}"


def _item(fields: Any) -> tuple[Reference, _Item]:
    reference, _, parent, *place = fields[:-5]
    index, count, children = (*place, None) if len(place) > 1 else (-1, -1, [tuple(child) for child in place[0]])
    return tuple(reference), _Item(tuple(parent), index, count, children, tuple(fields[-5:]))
