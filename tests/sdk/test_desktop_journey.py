"""What an agent does with a computer, by the published Python SDKs on the whole desktop."""

import base64
import json
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daytona import CreateSandboxFromSnapshotParams, SessionExecuteRequest

from tests.sdk.clients import Sdk, scenario

TEXT = "Hello Grüße Ελλάδα 日本語 😀🚀 {a}$~#€"


@pytest.fixture(scope="module")
def desktop(sdk: Sdk) -> Iterator[Any]:
    """Return a sandbox whose desktop is started."""
    created = sdk.run(sdk.daytona.create(CreateSandboxFromSnapshotParams()))
    sdk.run(created.computer_use.start())
    yield created
    sdk.run(created.delete(wait=True))


async def eventually(desktop: Any, look: Callable[[], Awaitable[Any]]) -> Any:
    """Return what `look` finds, once it finds something; waits in the sandbox, since the sync SDK has no loop."""
    for _ in range(150):
        if found := await look():
            return found
        await desktop.process.exec("sleep 0.1")
    raise AssertionError("not found")


async def run(desktop: Any, name: str, command: str) -> None:
    await desktop.process.create_session(name)
    await desktop.process.execute_session_command(name, SessionExecuteRequest(command=command, run_async=True))


async def window(desktop: Any, title: str) -> Any:
    """Return the window with this in its title, once it is there and in front."""

    async def look() -> Any:
        windows = (await desktop.computer_use.display.get_windows()).windows
        return next((each for each in windows if title in each.title and each.is_active), None)

    return await eventually(desktop, look)


@scenario
async def test_mixed_scripts_in_a_terminal_and_an_editor(*, sdk: Sdk, desktop: Any) -> None:
    computer = desktop.computer_use
    await run(desktop, "terminal", "xfce4-terminal --disable-server --title=term -e 'sh -c \"cat > typed\"'")
    await window(desktop, "term")
    await computer.keyboard.type(TEXT + "\n")
    await computer.keyboard.hotkey("ctrl+d")

    async def typed() -> Any:
        return (await desktop.process.exec("cat typed 2>/dev/null")).result

    assert await eventually(desktop, typed) == TEXT + "\n"
    await desktop.process.delete_session("terminal")

    await run(desktop, "editor", "mousepad --disable-server typed-too")
    await window(desktop, "typed-too")
    await computer.keyboard.type(TEXT)
    await computer.keyboard.hotkey("ctrl+s")

    async def saved() -> Any:
        return "typed-too" in (await desktop.process.exec("ls")).result

    await eventually(desktop, saved)
    area = (await computer.accessibility.find_nodes(scope="all", role="text", states=["multi_line", "showing"])).matches
    assert area[0].additional_properties["value"].rstrip("\n") == TEXT
    assert (await desktop.process.exec("cat typed-too")).result.rstrip("\n") == TEXT
    await desktop.process.delete_session("editor")


@scenario
async def test_a_window_is_dragged_and_filmed(*, sdk: Sdk, desktop: Any, tmp_path: Path) -> None:
    computer = desktop.computer_use
    await run(desktop, "editor", "mousepad --disable-server dragged")
    before = await window(desktop, "dragged")
    film = await computer.recording.start("drag")
    frame = before.additional_properties["frame"]
    x, y = before.x + before.width // 2, before.y - frame["top"] // 2
    await computer.mouse.drag(x, y, x + 120, y + 90)

    async def moved() -> Any:
        now = await window(desktop, "dragged")
        return (now.x, now.y) != (before.x, before.y) and now

    after = await eventually(desktop, moved)
    assert (after.x - before.x, after.y - before.y) == (120, 90)
    assert (after.width, after.height) == (before.width, before.height)
    picture = await computer.screenshot.take_full_screen()
    assert base64.b64decode(picture.screenshot).startswith(b"\x89PNG")
    done = await computer.recording.stop(film.id)
    assert (done.status, done.duration_seconds > 0) == ("completed", True)
    target = tmp_path / "film.mp4"
    await computer.recording.download(film.id, str(target))
    probe = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(target)]
    (stream,) = json.loads(subprocess.run(probe, capture_output=True, check=True).stdout)["streams"]
    assert (stream["width"], stream["height"], stream["codec_name"]) == (1024, 768, "h264")
    assert int(stream["nb_read_frames"]) > 1
    await computer.recording.delete(film.id)
    await desktop.process.delete_session("editor")
