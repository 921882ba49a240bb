"""The tree of what real programs show."""

from collections.abc import Iterator
from typing import Any

from tests.computeruse.a11y.conftest import Accessible, eventually


def every(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children"]:
        yield from every(child)


def under(node: dict[str, Any], **fields: str) -> list[dict[str, Any]]:
    return [each for each in every(node) if fields.items() <= each.items()]


async def test_a_program(accessible: Accessible, mousepad: int) -> None:
    root = await accessible.tree()
    assert (root["role"], root["id"]) == ("desktop frame", "org.a11y.atspi.Registry:/org/a11y/atspi/accessible/root")
    (program,) = root["children"]
    assert (program["role"], program["name"]) == ("application", "mousepad")
    assert program["bounds"] == {"x": 0, "y": 0, "width": 0, "height": 0}
    (frame,) = program["children"]
    assert frame["role"] == "frame"
    assert frame["name"].endswith("Mousepad")
    assert {"showing", "visible", "enabled", "resizable"} <= set(frame["states"])
    bounds = frame["bounds"]
    assert bounds["x"] >= 0
    assert bounds["y"] >= 0
    assert bounds["width"] > 100
    assert bounds["height"] > 100

    (bar,) = under(frame, role="menu bar")
    assert [menu["name"] for menu in bar["children"]] == ["File", "Edit", "Search", "View", "Document", "Help"]
    file = bar["children"][0]
    assert (file["role"], file["actions"], file["description"]) == ("menu", ["click"], "File menu")
    assert bounds["x"] <= file["bounds"]["x"] < bounds["x"] + bounds["width"]
    assert bounds["y"] <= file["bounds"]["y"] < bounds["y"] + bounds["height"]
    assert [item["name"].strip() for item in file["children"]][:2] == ["New", "New Window"]
    (text,) = under(frame, role="text")
    assert (text["value"], text["actions"]) == ("", [])
    assert {"editable", "focusable", "multi_line"} <= set(text["states"])

    nodes = list(every(root))
    assert len({node["id"] for node in nodes}) == len(nodes) > 200
    for node in nodes:
        assert node["id"]
        assert node["role"]
        assert all(isinstance(node[name], list) for name in ("states", "actions", "children"))
        assert all(type(number) is int for number in node["bounds"].values())
        assert min(node["bounds"]["width"], node["bounds"]["height"]) >= 0


async def test_scopes_and_depths(accessible: Accessible, mousepad: int) -> None:
    whole = await accessible.tree("scope=%20ALL%20&maxDepth=-3")
    flat = await accessible.tree("scope=all&maxDepth=0")
    assert flat["children"] == []
    assert flat["id"] == whole["id"]
    one = await accessible.tree("scope=all&maxDepth=1")
    assert [(each["name"], each["children"]) for each in one["children"]] == [("mousepad", [])]
    program = await accessible.tree(f"scope=pid&pid={mousepad}")
    assert program == whole["children"][0]
    two = await accessible.tree(f"scope=pid&pid={mousepad}&maxDepth=2")
    assert under(two, role="frame")[0]["children"]
    assert not any(grandchild["children"] for frame in two["children"] for grandchild in frame["children"])


async def test_the_tree_follows_the_program(accessible: Accessible, mousepad: int) -> None:
    before = await accessible.tree()
    (item,) = [node for node in every(before) if node["name"].strip() == "About"]
    await accessible.act("invoke", item)
    dialog = await accessible.one(role="dialog", states=["showing"])
    shown = await accessible.tree()
    assert {node["id"] for node in every(before)} < {node["id"] for node in every(shown)}
    (close,) = [node for node in every(shown) if node["name"] == "Close" and node["role"] == "push button"]
    await accessible.act("invoke", close, action="CLICK")

    async def closed() -> bool:
        return not await accessible.find(role="dialog", states=["showing"])

    await eventually(closed)
    status, answer = await accessible.answer("node/focus", id=dialog["id"])
    assert (status, answer["code"]) in {(404, "A11Y_NODE_NOT_FOUND"), (400, "A11Y_ACTION_NOT_SUPPORTED")}
