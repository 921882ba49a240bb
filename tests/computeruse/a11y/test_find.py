"""Looking for nodes."""

from typing import Any

from tests.computeruse.a11y.conftest import Accessible
from toolbox.computeruse.a11y.filters import MAX_PATTERN


async def test_filters(accessible: Accessible, mousepad: int) -> None:
    every = await accessible.find()
    assert every[0]["role"] == "desktop frame"
    assert all(node["children"] == [] for node in every)
    assert [node["id"] for node in await accessible.find(scope="pid", pid=mousepad)] == [
        node["id"] for node in every[1:]
    ]

    menus = await accessible.find(role="MENU", states=["showing"])
    assert [menu["name"] for menu in menus] == ["File", "Edit", "Search", "View", "Document", "Help"]
    assert all(menu["actions"] == ["click"] and menu["bounds"]["width"] > 0 for menu in menus)
    both = await accessible.find(role="menu", states=["showing"], name="e")
    assert [menu["name"] for menu in both] == ["File", "Search", "View", "Document", "Help"]
    exact = await accessible.find(role="menu", name="View", nameMatch="exact")
    assert [menu["name"] for menu in exact] == ["View"]
    matched = await accessible.find(role="menu", states=["showing"], name="^(F|.*w$)", nameMatch=" REGEX ")
    assert [menu["name"] for menu in matched] == ["File", "View"]
    assert await accessible.find(role="push button", states=["Multi-Line"]) == []
    assert await accessible.find(role="button") == await accessible.find(role="Push Button") != []
    (text,) = await accessible.find(role="text", states=["editable", "multi line"])
    assert text["value"] == ""
    assert await accessible.find(name="no such name") == []


async def test_limits(accessible: Accessible, mousepad: int) -> None:
    menus = await accessible.find(role="menu")
    for limit, expected, truncated in (
        (2, menus[:2], True),
        (len(menus), menus, False),
        (99999, menus, False),
        (0, menus, False),
        (-1, menus, False),
    ):
        status, answer = await accessible.answer("find", scope="all", role="menu", limit=limit)
        assert (status, answer) == (200, {"matches": expected, "truncated": truncated})


async def test_filters_that_cannot_be(accessible: Accessible) -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"name": "(", "nameMatch": "regex"}, "missing )"),
        ({"name": "a" * (MAX_PATTERN + 1), "nameMatch": "regex"}, "longer than"),
        ({"name": "((a{1,900}){1,900})", "nameMatch": "regex"}, "regular expression"),
        ({"name": "x", "nameMatch": "fuzzy"}, "expected substring, exact or regex"),
        ({"states": ["focussed"]}, "expected focused"),
        ({"states": ["nonsense0815"]}, "expected invalid, active"),
        ({"scope": "pid"}, "pid must be positive"),
        ({"scope": "pid", "pid": -4}, "pid must be positive"),
    )
    for filters, text in refused:
        status, answer = await accessible.answer("find", **filters)
        assert (status, answer["code"]) == (400, "A11Y_INVALID_REQUEST"), answer
        assert text in answer["message"]
        assert answer["source"] == "DAYTONA_DAEMON"


async def test_a_catastrophic_pattern_takes_no_time(accessible: Accessible, mousepad: int) -> None:
    (text,) = await accessible.find(role="text")
    await accessible.act("value", text, value="x")
    assert await accessible.find(name="^(([a-zA-Z: -]+)+)+0$", nameMatch="regex") == []
