"""Displays and windows by the published Python SDKs, on the desktop as it comes."""

import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from daytona import CreateSandboxFromSnapshotParams, DaytonaServiceUnavailableError, SessionExecuteRequest

from tests.computeruse.programs import WINDOWS
from tests.sdk.clients import Sdk, scenario

OPTIONS = [{"title": "Grüße 日本語", "x": 200, "y": 150, "width": 300, "height": 200}]


@pytest.fixture(scope="module")
def computer(sdk: Sdk) -> Iterator[Any]:
    """Return a sandbox of its own, whose desktop is not started yet."""
    created = sdk.run(sdk.daytona.create(CreateSandboxFromSnapshotParams()))
    yield created
    sdk.run(created.delete(wait=True))


@scenario
async def test_displays_and_windows(sdk: Sdk, computer: Any) -> None:
    display = computer.computer_use.display
    for call in (display.get_info, display.get_windows):
        with pytest.raises(DaytonaServiceUnavailableError, match="desktop is not started"):
            await call()
    await computer.computer_use.start()
    info = await display.get_info()
    [screen] = info.displays
    assert (screen.id, screen.x, screen.y, screen.width, screen.height, screen.is_active) == (0, 0, 0, 1024, 768, True)
    assert info.additional_properties["total_displays"] == 1
    assert info.additional_properties["primary_display"]["width"] == 1024

    await computer.process.create_session("windows")
    command = shlex.join([sys.executable, str(WINDOWS), json.dumps(OPTIONS)])
    await computer.process.execute_session_command("windows", SessionExecuteRequest(command=command, run_async=True))
    found: list[Any] = []
    while not found:
        listed = await display.get_windows()
        assert listed.additional_properties["count"] == len(listed.windows)
        found = [window for window in listed.windows if window.title == OPTIONS[0]["title"]]
    assert (found[0].width, found[0].height) == (300, 200)
    assert found[0].id > 0
    assert found[0].x >= 200
    assert found[0].y >= 150
    assert isinstance(found[0].is_active, bool)
    await computer.process.delete_session("windows")
