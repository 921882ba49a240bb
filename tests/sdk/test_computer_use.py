"""Computer use by the published Python SDKs."""

from typing import Any

from daytona import CreateSandboxFromSnapshotParams

from tests.sdk.clients import Sdk, scenario

NAMES = {"xvfb", "xfce4", "atspi", "x11vnc", "novnc"}


@scenario
async def test_the_life_of_a_desktop(sdk: Sdk, box: Any) -> None:
    computer = box.computer_use
    assert (await computer.get_status()).status == "inactive"
    started = await computer.start()
    assert started.message == "Computer use processes started successfully"
    assert started.status.keys() == NAMES
    for process in started.status.values():
        assert (process.running, process.auto_restart) == (True, True)
        assert process.pid > 0
        assert process.priority >= 100
    assert (await computer.get_status()).status == "active"

    assert (await computer.get_process_status("xvfb")).running is True
    restarted = await computer.restart_process("novnc")
    assert (restarted.process_name, restarted.message) == ("novnc", "Process novnc restarted successfully")
    assert (await computer.get_process_status("novnc")).running is True
    logs = await computer.get_process_logs("novnc")
    assert (logs.process_name, logs.logs) == ("novnc", "")
    errors = await computer.get_process_errors("novnc")
    assert (errors.process_name, "WebSocket server settings" in errors.errors) == ("novnc", True)
    assert (await box.process.exec("echo $DISPLAY")).result.startswith(":")

    stopped = await computer.stop()
    assert stopped.message == "Computer use processes stopped successfully"
    assert {process.running for process in stopped.status.values()} == {False}
    assert (await computer.get_status()).status == "inactive"
    assert (await computer.get_process_status("xvfb")).running is False


@scenario
async def test_desktops_side_by_side(sdk: Sdk, box: Any) -> None:
    other = await sdk.daytona.create(CreateSandboxFromSnapshotParams(name=f"desktop-{sdk.name}"))
    try:
        await box.computer_use.start()
        await other.computer_use.start()
        displays = {(await each.process.exec("echo $DISPLAY")).result for each in (box, other)}
        assert len(displays) == 2
        await box.computer_use.stop()
        assert (await other.computer_use.get_status()).status == "active"
    finally:
        await other.delete(wait=True)
