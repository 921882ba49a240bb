"""Acting on nodes."""

from typing import Any

from tests.computeruse.a11y.conftest import Accessible, eventually


async def test_a_text(accessible: Accessible, mousepad: int) -> None:
    (text,) = await accessible.find(role="text")
    for value in ("héllo\nwörld 🚀", "", "x" * 5000):
        await accessible.act("value", text, value=value)
        (text,) = await accessible.find(role="text")
        assert text["value"] == value[:4000]
    assert await accessible.answer("node/value", id=text["id"]) == (200, {})
    assert (await accessible.find(role="text"))[0]["value"] == ""


async def test_a_number(accessible: Accessible, mousepad: int) -> None:
    (text,) = await accessible.find(role="text")
    await accessible.act("value", text, value="line\n" * 500)

    async def bar() -> Any:
        bars = await accessible.find(role="scroll bar", states=["vertical", "showing"])
        return bars and bars[0]

    scroll_bar = await eventually(bar)
    for wrong in ("", "ten", "nan", "inf"):
        status, answer = await accessible.answer("node/value", id=scroll_bar["id"], value=wrong)
        assert (status, answer["code"]) == (400, "A11Y_ACTION_NOT_SUPPORTED")

    async def scrolled() -> bool:
        await accessible.act("value", scroll_bar, value="100")
        return bool((await bar())["value"] == "100")

    await eventually(scrolled)


async def test_focus(accessible: Accessible, mousepad: int) -> None:
    # Its dialog has more than one thing to focus.
    (item,) = await accessible.find(role="menu item", name="Find and Replace")
    await accessible.act("invoke", item)

    async def entries() -> list[dict[str, Any]]:
        return await accessible.find(role="text", states=["single_line", "showing", "focusable"])

    first, second = await eventually(entries)
    for entry in (second, first, second):
        await accessible.act("focus", entry)

        async def focused(entry: dict[str, Any] = entry) -> bool:
            (now,) = [node for node in await entries() if node["id"] == entry["id"]]
            return "focused" in now["states"]

        await eventually(focused)


async def test_ids(accessible: Accessible) -> None:
    for node_id, status, code in (
        ("", 400, "A11Y_INVALID_REQUEST"),
        ("garbage", 400, "A11Y_INVALID_REQUEST"),
        (":1.2/a", 400, "A11Y_INVALID_REQUEST"),
        (":1.2:/a//b", 400, "A11Y_INVALID_REQUEST"),
        (":1.2:/a/", 400, "A11Y_INVALID_REQUEST"),
        ("no-dot:/a", 400, "A11Y_INVALID_REQUEST"),
        (":1.2\n:/a", 400, "A11Y_INVALID_REQUEST"),
        (":1.9999:/org/a11y/atspi/accessible/1", 404, "A11Y_NODE_NOT_FOUND"),
        ("org.freedesktop.DBus:/a", 404, "A11Y_NODE_NOT_FOUND"),
        ("org.a11y.atspi.Registry:/org/a11y/atspi/accessible/4711", 404, "A11Y_NODE_NOT_FOUND"),
    ):
        for what in ("focus", "invoke", "value"):
            got, answer = await accessible.answer(f"node/{what}", id=node_id, value="x")
            assert (got, answer["code"], answer["source"]) == (status, code, "DAYTONA_DAEMON"), (node_id, answer)


async def test_what_a_node_cannot_do(accessible: Accessible, mousepad: int) -> None:
    (frame,) = await accessible.find(role="frame")
    (text,) = await accessible.find(role="text")
    menu = (await accessible.find(role="menu"))[0]
    disabled = next(node for node in await accessible.find(role="menu item") if "sensitive" not in node["states"])
    gone = text["id"].rpartition("/")[0] + "/4711"
    for what, body, expected in (
        ("invoke", {"id": menu["id"], "action": "frobnicate"}, "it has click"),
        ("invoke", {"id": text["id"]}, "no actions"),
        ("invoke", {"id": disabled["id"]}, "it has none now"),
        ("value", {"id": frame["id"], "value": "x"}, "neither a text nor a number"),
        ("focus", {"id": frame["id"].rpartition("/")[0] + "/root"}, "does not take the focus"),
    ):
        status, answer = await accessible.answer(f"node/{what}", **body)
        assert (status, answer["code"]) == (400, "A11Y_ACTION_NOT_SUPPORTED"), (what, answer)
        assert expected in answer["message"]
    status, answer = await accessible.answer("node/focus", id=gone)
    assert (status, answer["code"]) == (404, "A11Y_NODE_NOT_FOUND")
    status, answer = await accessible.answer("node/value", id=text["id"], value="a\0b")
    assert (status, answer["code"]) == (400, "A11Y_INVALID_REQUEST")
