"""`GET /process` and signals."""

import asyncio
from typing import Any

import pytest

from tests.conftest import Daemon


async def listed(daemon: Daemon) -> list[dict[str, Any]]:
    async with daemon.http.get("/process") as response:
        assert response.status == 200
        answer: list[dict[str, Any]] = await response.json()
        return answer


async def send(daemon: Daemon, process_id: str, body: object) -> int:
    async with daemon.http.post(f"/process/{process_id}/signal", json=body) as response:
        return response.status


async def running(daemon: Daemon, command: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            for process in await listed(daemon):
                if process["command"] == command and process["processes"] >= 2:
                    return process
            await asyncio.sleep(0.02)


async def test_a_running_command_is_listed_and_can_be_signalled(daemon: Daemon) -> None:
    command = "echo $$; sleep 1000; echo after"
    job = asyncio.ensure_future(daemon.execute(command))
    process = await running(daemon, command)
    assert process["status"] == "running"
    assert process["rssBytes"] > 100_000
    assert "exitCode" not in process
    assert await send(daemon, process["id"], {"signal": "TERM"}) == 204
    answer = await job
    assert answer["cause"] == "SIGTERM"
    assert answer["result"] == f"{process['pid']}\n"
    (ended,) = [each for each in await listed(daemon) if each["id"] == process["id"]]
    assert (ended["status"], ended["exitCode"], ended["cause"]) == ("exited", 143, "SIGTERM")
    assert await send(daemon, process["id"], {"signal": 9}) == 410


async def test_a_signal_to_the_process_alone(daemon: Daemon) -> None:
    command = "trap 'echo caught' USR1; sleep 0.5 & wait; wait"
    job = asyncio.ensure_future(daemon.execute(command))
    process = await running(daemon, command)
    assert await send(daemon, process["id"], {"signal": "SIGUSR1", "group": False}) == 204
    assert (await job)["result"] == "caught\n"


@pytest.mark.parametrize(
    "body", [{}, {"signal": ""}, {"signal": "NOPE"}, {"signal": 0}, {"signal": 999}, {"signal": -9}]
)
async def test_bad_signals(daemon: Daemon, body: object) -> None:
    assert await send(daemon, "x", body) == 400


async def test_unknown_processes(daemon: Daemon) -> None:
    assert await send(daemon, "1", {"signal": 15}) == 404


async def test_sessions_are_listed_by_name(daemon: Daemon) -> None:
    async with daemon.http.post("/process/session", json={"sessionId": "mine"}) as response:
        assert response.status == 201
    assert [process["command"] for process in await listed(daemon)] == ["session mine"]


async def test_a_long_command_is_shortened(daemon: Daemon) -> None:
    command = f"true {'x' * 100_000}"
    assert (await daemon.execute(command))["exitCode"] == 0
    assert command[:4096] + "…" in [each["command"] for each in await listed(daemon)]
