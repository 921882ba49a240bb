"""Routes of accessibility."""

import asyncio

import msgspec

from toolbox.computeruse.a11y.accessibility import Accessibility
from toolbox.computeruse.a11y.application import Node
from toolbox.computeruse.a11y.atspi import state_names
from toolbox.computeruse.a11y.filters import Filter, name_matcher
from toolbox.computeruse.a11y.models import (
    AccessibilityInvokeRequest,
    AccessibilityNode,
    AccessibilityNodeRequest,
    AccessibilityNodesResponse,
    AccessibilitySetValueRequest,
    AccessibilityTreeResponse,
    Bounds,
    Empty,
    FindAccessibilityNodesRequest,
    TreeQuery,
)
from toolbox.web.endpoint import Routes

routes = Routes("computer-use")


@routes.get("/computeruse/a11y/tree", "GetAccessibilityTree")
async def tree(query: TreeQuery, accessibility: Accessibility) -> AccessibilityTreeResponse:
    """Get what programs tell of their user interface, as a tree."""
    root, truncated = await accessibility.tree(query.scope, query.pid, query.max_depth)
    # Of many nodes that takes a while.
    return AccessibilityTreeResponse(root=await asyncio.to_thread(_with_children, root), truncated=truncated)


@routes.post("/computeruse/a11y/find", "FindAccessibilityNodes")
async def find(body: FindAccessibilityNodesRequest, accessibility: Accessibility) -> AccessibilityNodesResponse:
    """Find nodes by role, name and states."""
    matches = await name_matcher(body.name, body.name_match)
    wanted = Filter(role=body.role, states=body.states, matches=matches, limit=body.limit)
    found, truncated = await accessibility.find(body.scope, body.pid, wanted)
    return AccessibilityNodesResponse(matches=[_alone(node) for node in found], truncated=truncated)


@routes.post("/computeruse/a11y/node/focus", "FocusAccessibilityNode")
async def focus(body: AccessibilityNodeRequest, accessibility: Accessibility) -> Empty:
    """Give a node the keyboard focus."""
    await accessibility.focus(body.id)
    return Empty()


@routes.post("/computeruse/a11y/node/invoke", "InvokeAccessibilityNode")
async def invoke(body: AccessibilityInvokeRequest, accessibility: Accessibility) -> Empty:
    """Do an action of a node, as a click on a button or menu."""
    await accessibility.invoke(body.id, body.action)
    return Empty()


@routes.post("/computeruse/a11y/node/value", "SetAccessibilityNodeValue")
async def set_value(body: AccessibilitySetValueRequest, accessibility: Accessibility) -> Empty:
    """Replace the text of a node, or set its number."""
    await accessibility.set_value(body.id, body.value)
    return Empty()


def _with_children(node: Node) -> AccessibilityNode:
    answer = _alone(node)
    answer.children = [_with_children(child) for child in node.children if child.known]
    return answer


def _alone(node: Node) -> AccessibilityNode:
    x, y, width, height = node.bounds
    return AccessibilityNode(
        id=node.id,
        role=node.role,
        name=node.title,
        bounds=Bounds(x=x, y=y, width=width, height=height),
        states=state_names(node.states),
        actions=node.actions,
        children=[],
        description=node.description or msgspec.UNSET,
        value=msgspec.UNSET if node.value is None else node.value,
    )
