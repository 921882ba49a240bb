"""Errors of the accessibility routes, and what can go wrong with one call on the bus."""

from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.errors import BadRequest, NotFound


class AccessibilityUnavailable(DesktopUnavailable):
    """There is no desktop or no accessibility bus, or a program does not answer."""

    code = "A11Y_UNAVAILABLE"


class InvalidRequest(BadRequest):
    """A filter, id or pid that cannot be."""

    code = "A11Y_INVALID_REQUEST"


class InvalidScope(BadRequest):
    """No such scope."""

    code = "A11Y_INVALID_SCOPE"


class ActionNotSupported(BadRequest):
    """The node cannot do that."""

    code = "A11Y_ACTION_NOT_SUPPORTED"


class NodeMissing(NotFound):
    """No such node, or it has gone."""

    code = "A11Y_NODE_NOT_FOUND"


class RootMissing(NotFound):
    """The program asked for tells nothing to assistive technology."""

    code = "A11Y_NO_ACCESSIBLE_ROOT"


class CallFailed(Exception):
    """A program refused a call, does not know the object, or has gone."""


class NotAnswering(Exception):
    """A program leaves a call unanswered."""
