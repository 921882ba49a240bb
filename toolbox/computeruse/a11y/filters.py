"""What nodes are looked for."""

import asyncio
import difflib
import importlib
from collections.abc import Callable, Iterable
from itertools import islice

from toolbox.computeruse.a11y import atspi
from toolbox.computeruse.a11y.application import Node
from toolbox.computeruse.a11y.errors import AccessibilityUnavailable, InvalidRequest

MAX_PATTERN = 1000
DEFAULT_LIMIT = 500
MAX_LIMIT = 5000

_RENAMED = {"button": "push button"}
"""Roles by their names from AT-SPI 2.54 on, and what they were called before."""


class Filter:
    """Conditions that must all hold; an empty one always does. Raises `InvalidRequest` for what can never hold."""

    def __init__(self, *, role: str, states: Iterable[str], matches: Callable[[str], bool], limit: int) -> None:
        self._role = _role(role)
        self._states = 0
        for state in states:
            self._states |= _state_bit(state)
        self._matches = matches
        self._limit = min(limit, MAX_LIMIT) if limit > 0 else DEFAULT_LIMIT

    async def choose(self, nodes: Iterable[Node]) -> tuple[list[Node], bool]:
        """Return the first nodes that pass, and whether there are more."""
        passing = filter(self._passes, nodes)
        # Twenty thousand long names take a while.
        found = await asyncio.to_thread(lambda: list(islice(passing, self._limit + 1)))
        return found[: self._limit], len(found) > self._limit

    def _passes(self, node: Node) -> bool:
        return (
            node.states & self._states == self._states
            and (not self._role or _role(node.role) == self._role)
            and self._matches(node.title)
        )


def _role(name: str) -> str:
    lower = name.strip().casefold()
    return _RENAMED.get(lower, lower)


def _state_bit(name: str) -> int:
    normal = name.strip().lower().replace(" ", "_").replace("-", "_")
    try:
        return atspi.state_bit(normal)
    except ValueError:
        near = difflib.get_close_matches(normal, atspi.STATES, n=3) or atspi.STATES
        raise InvalidRequest(f"unknown state {name!r}: expected {', '.join(near)}") from None


async def name_matcher(name: str, mode: str) -> Callable[[str], bool]:
    """Return the test of a node's name. Raises `InvalidRequest`."""
    kind = mode.strip().lower() or "substring"
    if kind not in {"substring", "exact", "regex"}:
        raise InvalidRequest(f"unknown nameMatch {mode!r}: expected substring, exact or regex")
    if kind == "regex" and name:
        return await _search(name)
    if kind == "exact" and name:
        return lambda title: name == title
    return lambda title: name in title


async def _search(pattern: str) -> Callable[[str], bool]:
    # RE2 takes linear time: Python's own engine could be held up for ever, and the whole daemon with it.
    if len(pattern) > MAX_PATTERN:
        raise InvalidRequest(f"the regular expression is longer than {MAX_PATTERN} characters")
    try:
        re2 = await asyncio.to_thread(importlib.import_module, "re2")
    except ImportError as error:
        raise AccessibilityUnavailable(
            f"regular expressions need the extra `desktop` of sandbox-toolbox: {error}"
        ) from None
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise InvalidRequest(f"invalid regular expression {pattern!r}: {text}") from None
    return lambda title: compiled.search(title) is not None
