"""The walk over a tree of objects: many at once, within bounds of number, depth and time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from toolbox.computeruse.a11y import atspi
from toolbox.computeruse.a11y.application import Application, Node, Reference, all_of
from toolbox.computeruse.a11y.errors import CallFailed, NotAnswering

if TYPE_CHECKING:
    from toolbox.computeruse.a11y.bus import AccessibilityBus

MAX_NODES = 20_000
MAX_DEPTH = 200
"""Deeper than any real user interface; JSON encoders and decoders recurse."""
WALK_SECONDS = 10.0

_FOCUSABLE = atspi.state_bit("focusable")


class Walk:
    """One walk. `truncated` tells whether something was left out: too much, too deep, or not answered in time.

    Objects that have gone when they are looked at are not there: that truncates nothing.
    """

    def __init__(self, bus: "AccessibilityBus", max_depth: int = -1) -> None:
        self.truncated = False
        self._bus = bus
        self._asked_depth = max_depth
        self._end = asyncio.get_running_loop().time() + WALK_SECONDS
        self._applications: dict[str, Application] = {}
        self._seen: set[Reference] = set()
        """What has been met: trees of careless programs have cycles."""

    async def tree(self, root: Node, *, desktop: bool = False) -> None:
        """Read `root` and what is below it. On the whole `desktop` no program has to wait for another."""
        self._seen.add((root.name, root.path))
        async with self._in_time():
            if desktop and self._asked_depth != 0:
                await self._level([root], expand=True)
                await all_of([self._below(child, 1) for child in root.children])
            else:
                await self._below(root, 0)
        async with self._in_time():
            await self._name_roles(root)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(self._end):
                yield
        except TimeoutError:
            self.truncated = True

    async def _below(self, root: Node, depth: int) -> None:
        level = [root]
        while level:
            expand = depth != self._asked_depth
            if expand and depth == MAX_DEPTH:
                self.truncated, expand = True, False
            await self._level(level, expand=expand)
            level = [child for node in level for child in node.children]
            depth += 1

    async def _level(self, level: list[Node], *, expand: bool) -> None:
        """Read nodes, and make nodes of their children, without reading those."""
        if new := {node.name for node in level} - self._applications.keys():
            self._applications |= {name: Application(self._bus, name) for name in new}
            await all_of([self._tolerantly(self._applications[name].load()) for name in new])
        reading = []
        for node in level:
            references = self._applications[node.name].recall(node)
            if references is not None and expand:
                self._adopt(node, references)
            elif expand or not node.known:
                reading.append(self._tolerantly(self._read(node, expand=expand)))
        await all_of(reading)

    async def _read(self, node: Node, *, expand: bool) -> None:
        references = await self._applications[node.name].read(node)
        if expand:
            self._adopt(node, references)

    def _adopt(self, node: Node, references: Iterable[Reference]) -> None:
        for name, path in references:
            if path == atspi.NULL_PATH or (name, path) in self._seen:
                continue
            if len(self._seen) == MAX_NODES:
                self.truncated = True
                return
            self._seen.add((name, path))
            node.children.append(Node(name, path))

    async def _tolerantly(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except CallFailed:
            pass
        except NotAnswering:
            self.truncated = True

    async def _name_roles(self, root: Node) -> None:
        """Fill the role names of what came out of caches: asked once for each kind of object a program has."""
        alike: dict[tuple[str, int, str], list[Node]] = {}
        for node in preorder(root):
            if not node.role:
                path = node.path if node.role_number == atspi.ROLE_EXTENDED else ""
                alike.setdefault((node.name, node.role_number, path), []).append(node)
        await all_of(
            [self._tolerantly(self._applications[name].read_role(nodes[0])) for (name, *_), nodes in alike.items()]
        )
        for nodes in alike.values():
            for node in nodes:
                node.role = nodes[0].role or "unknown"

    async def details(self, nodes: Iterable[Node]) -> None:
        """Fill bounds, actions and values of nodes that are known."""
        reading: list[Coroutine[Any, Any, None]] = []
        acting = []
        for node in nodes:
            application = self._applications[node.name]
            if atspi.COMPONENT in node.interfaces:
                reading.append(application.read_bounds(node))
            if atspi.ACTION in node.interfaces:
                acting.append(node)
                reading.append(application.read_actions(node))
            if atspi.TEXT in node.interfaces and node.states & _FOCUSABLE:
                reading.append(application.read_text(node))
            elif atspi.VALUE in node.interfaces:
                reading.append(application.read_number(node))
        async with self._in_time():
            await all_of([self._tolerantly(each) for each in reading])
            await self._name_actions(acting)

    async def _name_actions(self, nodes: list[Node]) -> None:
        """Put the names of actions in place of their titles: asked once for each title a kind of object has."""
        names: dict[tuple[str, str, str], str] = {}
        asked: dict[tuple[str, str, str], tuple[Node, int]] = {}
        for node in nodes:
            for index, title in enumerate(node.actions):
                asked.setdefault((node.name, node.role, title), (node, index))

        async def ask(key: tuple[str, str, str], node: Node, index: int) -> None:
            names[key] = await self._applications[node.name].action_name(node, index)

        await all_of([self._tolerantly(ask(key, *where)) for key, where in asked.items()])
        for node in nodes:
            node.actions = [names.get((node.name, node.role, title)) or title for title in node.actions]


def preorder(root: Node) -> Iterator[Node]:
    """Give the known nodes, parents before their children."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.known:
            yield node
            waiting.extend(reversed(node.children))
