"""Programs whose trees are cyclic, endless, too large or nonsense."""

import itertools
from typing import Any

from tests.computeruse.a11y.conftest import Accessible
from tests.computeruse.a11y.program import on_the_bus
from toolbox.computeruse.a11y.walk import MAX_DEPTH, MAX_NODES


async def session_bus(accessible: Accessible) -> str:
    return str((await accessible.daemon.execute("printenv DBUS_SESSION_BUS_ADDRESS"))["result"]).strip()


def size(node: dict[str, Any]) -> int:
    count, waiting = 0, [node]
    while waiting:
        waiting += waiting.pop()["children"]
        count += 1
    return count


async def test_cycles(accessible: Accessible) -> None:
    links = {"root": ["1", "2", "1"], "1": ["root", "1", "2"], "2": ["3"], "3": []}
    async with on_the_bus(await session_bus(accessible), lambda name: links[name]):
        (program,) = (await accessible.tree())["children"]
        assert size(program) == 4
        first = program["children"][0]
        assert (first["name"], first["description"], first["role"], first["value"]) == ("1", "1", "panel", "2.5")
        assert (first["states"], first["actions"]) == (["enabled", "read_only"], ["go", "away"])
        assert first["bounds"] == {"x": 0, "y": 0, "width": 0, "height": 0}


async def test_actions_in_another_language(accessible: Accessible) -> None:
    async with on_the_bus(await session_bus(accessible), lambda name: ["1"] if name == "root" else []):
        node = await accessible.one(name="1")
        for action in ("away", " AWAY ", "weg"):
            assert await accessible.answer("node/invoke", id=node["id"], action=action) == (200, {})
        for action, text in (("go", "does not do that now"), ("Klick", "it has go, away")):
            status, answer = await accessible.answer("node/invoke", id=node["id"], action=action)
            assert (status, answer["code"]) == (400, "A11Y_ACTION_NOT_SUPPORTED")
            assert text in answer["message"]


async def test_an_endless_tree(accessible: Accessible) -> None:
    numbers = map(str, itertools.count())
    async with on_the_bus(await session_bus(accessible), lambda _: [next(numbers)]):
        status, answer = await accessible.answer("tree?scope=all")
        assert (status, answer["truncated"]) == (200, True)
        assert size(answer["root"]) <= MAX_DEPTH + 1


async def test_a_large_tree_out_of_an_old_cache(accessible: Accessible) -> None:
    names = [str(number) for number in range(MAX_NODES + 10)]
    async with on_the_bus(await session_bus(accessible), lambda _: []) as program:
        program.items = [program.item("root", names), *(program.item(name, []) for name in names)]
        status, answer = await accessible.answer("tree?scope=all")
        assert (status, answer["truncated"]) == (200, True)
        (root,) = answer["root"]["children"]
        assert size(answer["root"]) == MAX_NODES
        assert [node["name"] for node in root["children"][:2]] == ["cached 0", "cached 1"]
        assert root["children"][0]["role"] == "panel"
        assert root["children"][0]["states"] == ["enabled"]


async def test_nonsense(accessible: Accessible) -> None:
    async with on_the_bus(await session_bus(accessible), lambda _: []) as program:
        program.garbage = True
        assert (await accessible.tree())["children"] == []
        status, answer = await accessible.answer("node/focus", id=":".join(program.reference("root")))
        assert (status, answer["code"]) == (404, "A11Y_NODE_NOT_FOUND")
