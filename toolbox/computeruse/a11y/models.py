"""Wire models of accessibility (contract, computer-use.md section 7)."""

import msgspec

from toolbox.web.wire import Model


class TreeQuery(Model):
    """Which part of the desktop; `maxDepth` 0 is the root alone, negative values are no limit."""

    scope: str = "focused"
    pid: int = 0
    max_depth: int = -1


class Bounds(Model):
    """A rectangle on the screen, in pixels; all zero for what has no place there."""

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0


class AccessibilityNode(Model):
    """One object of a program's user interface."""

    id: str
    """Its bus name and path; good for as long as the object lives."""
    role: str
    name: str
    bounds: Bounds
    states: list[str]
    actions: list[str]
    children: list["AccessibilityNode"]
    """In the answer of find always empty."""
    description: str | msgspec.UnsetType = msgspec.UNSET
    value: str | msgspec.UnsetType = msgspec.UNSET
    """The text of what has a caret (its first 4000 characters), the number of a slider or progress bar."""


class AccessibilityTreeResponse(Model):
    """A tree; `truncated` when it is not all: too many nodes, or a program did not answer in time."""

    root: AccessibilityNode
    truncated: bool


class FindAccessibilityNodesRequest(Model):
    """Filters, all of which must hold; an empty one always does."""

    scope: str = "focused"
    pid: int = 0
    role: str = ""
    """Without regard to case; `button` and `push button` are one, as AT-SPI has renamed it."""
    name: str = ""
    name_match: str = "substring"
    """substring, exact or regex (RE2)."""
    states: list[str] = []
    limit: int = 0
    """0: 500; at most 5000."""


class AccessibilityNodesResponse(Model):
    """Nodes in the order of the tree; `truncated` when there are more."""

    matches: list[AccessibilityNode]
    truncated: bool


class AccessibilityNodeRequest(Model):
    """A node."""

    id: str = ""


class AccessibilityInvokeRequest(Model):
    """A node, and which of its actions; the first without one."""

    id: str = ""
    action: str = ""


class AccessibilitySetValueRequest(Model):
    """A node, and its new text or number."""

    id: str = ""
    value: str = ""


class Empty(Model):
    """Done."""
