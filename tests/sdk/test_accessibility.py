"""Accessibility by the published Python SDKs, on the desktop as it comes."""

from collections.abc import Iterator
from typing import Any

import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    DaytonaA11yUnavailableError,
    DaytonaBadRequestError,
    DaytonaNotFoundError,
    SessionExecuteRequest,
)

from tests.sdk.clients import Sdk, scenario


@pytest.fixture(scope="module")
def desktop(sdk: Sdk) -> Iterator[Any]:
    """Return a sandbox whose desktop is started."""
    created = sdk.run(sdk.daytona.create(CreateSandboxFromSnapshotParams()))
    sdk.run(created.computer_use.start())
    yield created
    sdk.run(created.delete(wait=True))


async def wait_for_editor(desktop: Any) -> Any:
    """Return the text area of an editor, once it is there; polls without a loop of its own for the sync SDK."""
    accessibility = desktop.computer_use.accessibility
    await desktop.process.create_session("editor")
    command = SessionExecuteRequest(command="mousepad --disable-server", run_async=True)
    await desktop.process.execute_session_command("editor", command)
    for _ in range(100):
        found = await accessibility.find_nodes(scope="all", role="text", states=["multi_line", "showing"])
        if found.matches:
            return found.matches[0]
        await desktop.process.exec("sleep 0.2")
    raise AssertionError("no editor")


@scenario
async def test_without_a_desktop(*, sdk: Sdk, box: Any) -> None:
    accessibility = box.computer_use.accessibility
    node = ":1.1:/org/a11y/atspi/accessible/1"
    for call in (
        accessibility.get_tree(),
        accessibility.find_nodes(role="frame"),
        accessibility.focus_node(node),
        accessibility.invoke_node(node),
        accessibility.set_node_value(node, "x"),
    ):
        with pytest.raises(DaytonaA11yUnavailableError) as caught:
            await call
        assert (caught.value.status_code, caught.value.code) == (503, "A11Y_UNAVAILABLE")


@scenario
async def test_look_and_act(*, sdk: Sdk, desktop: Any) -> None:
    accessibility = desktop.computer_use.accessibility
    text = await wait_for_editor(desktop)
    await accessibility.focus_node(text.id)
    await accessibility.set_node_value(text.id, "héllo")
    (text,) = (await accessibility.find_nodes(scope="all", role="text", states=["multi_line"])).matches
    assert text.additional_properties["value"] == "héllo"

    tree = await accessibility.get_tree(scope="all", max_depth=1)
    assert (tree.truncated, tree.root.role) == (False, "desktop frame")
    assert "mousepad" in [program.name for program in tree.root.children]
    assert all(program.children == [] == program.actions for program in tree.root.children)

    items = await accessibility.find_nodes(scope="all", role="menu item", name="^About *$", name_match="regex", limit=5)
    (about,) = [item for item in items.matches if item.description == "About this application"]
    assert about.actions == ["click"]
    await accessibility.invoke_node(about.id, action="click")
    for _ in range(100):
        dialogs = await accessibility.find_nodes(scope="all", role="dialog", states=["showing"])
        if dialogs.matches:
            break
        await desktop.process.exec("sleep 0.2")
    assert dialogs.matches[0].bounds.width > 0
    (close,) = (
        await accessibility.find_nodes(scope="all", role="push button", name="Close", name_match="exact")
    ).matches
    await accessibility.invoke_node(close.id)


@scenario
async def test_what_goes_wrong(*, sdk: Sdk, desktop: Any) -> None:
    accessibility = desktop.computer_use.accessibility
    for call, kind, code in (
        (accessibility.get_tree(scope="nowhere"), DaytonaBadRequestError, "A11Y_INVALID_SCOPE"),
        (accessibility.get_tree(scope="pid", pid=1), DaytonaNotFoundError, "A11Y_NO_ACCESSIBLE_ROOT"),
        (accessibility.find_nodes(states=["focussed"]), DaytonaBadRequestError, "A11Y_INVALID_REQUEST"),
        (accessibility.focus_node("garbage"), DaytonaBadRequestError, "A11Y_INVALID_REQUEST"),
        (accessibility.focus_node(":1.9999:/org/none"), DaytonaNotFoundError, "A11Y_NODE_NOT_FOUND"),
    ):
        with pytest.raises(kind) as caught:
            await call
        assert caught.value.code == code
    frame = (await accessibility.find_nodes(scope="all", role="desktop frame")).matches[0]
    with pytest.raises(DaytonaBadRequestError) as refused:
        await accessibility.invoke_node(frame.id, action="click")
    assert refused.value.code == "A11Y_ACTION_NOT_SUPPORTED"
