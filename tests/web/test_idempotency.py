"""`Idempotency-Key`: once, whatever happens to the client or the daemon."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.conftest import Daemon, Toolboxd, run_daemon
from toolbox.config import ServeConfig

SCRIPT = "echo run >> runs; echo out; exit 3"


async def execute(daemon: Daemon, key: str, command: str, **fields: object) -> tuple[int, dict[str, Any]]:
    body = {"command": command, **fields}
    async with daemon.http.post("/process/execute", json=body, headers={"Idempotency-Key": key}) as response:
        return response.status, await response.json()


async def test_the_same_request_runs_once_and_answers_the_same(daemon: Daemon) -> None:
    first = await execute(daemon, "k1", SCRIPT)
    assert first == (200, {"exitCode": 3, "result": "out\n"})
    assert await execute(daemon, "k1", SCRIPT) == first
    assert (daemon.work_dir / "runs").read_text() == "run\n"
    assert (await execute(daemon, "k2", SCRIPT))[0] == 200
    assert (daemon.work_dir / "runs").read_text() == "run\nrun\n"


async def test_another_request_under_the_same_key_is_a_conflict(daemon: Daemon) -> None:
    await execute(daemon, "k", SCRIPT)
    assert (await execute(daemon, "k", "echo other"))[0] == 409
    slow = asyncio.ensure_future(execute(daemon, "s", "sleep 0.3; echo slow"))
    await asyncio.sleep(0.1)
    assert (await execute(daemon, "s", "echo other"))[0] == 409
    assert (await slow)[1]["result"] == "slow\n"


async def test_while_the_first_runs_the_others_wait_for_it(daemon: Daemon) -> None:
    answers = await asyncio.gather(*(execute(daemon, "k", "sleep 0.2; " + SCRIPT) for _ in range(5)))
    assert answers == [(200, {"exitCode": 3, "result": "out\n"})] * 5
    assert (daemon.work_dir / "runs").read_text() == "run\n"


async def test_a_client_that_goes_away_gets_the_answer_later(daemon: Daemon) -> None:
    with pytest.raises(TimeoutError):
        async with daemon.http.post(
            "/process/execute",
            json={"command": "sleep 0.5; " + SCRIPT},
            headers={"Idempotency-Key": "k"},
            timeout=aiohttp.ClientTimeout(total=0.2),
        ):
            pass
    assert await execute(daemon, "k", "sleep 0.5; " + SCRIPT) == (200, {"exitCode": 3, "result": "out\n"})
    assert (daemon.work_dir / "runs").read_text() == "run\n"


async def test_errors_and_large_answers_are_kept_too(daemon: Daemon) -> None:
    first = await execute(daemon, "t", "echo run >> runs; sleep 10", timeout=1)
    assert first[0] == 408
    assert await execute(daemon, "t", "echo run >> runs; sleep 10", timeout=1) == first
    assert (daemon.work_dir / "runs").read_text() == "run\n"
    large = await execute(daemon, "l", "seq 1 200000")
    assert await execute(daemon, "l", "seq 1 200000") == large
    assert large[1]["result"].endswith("\n200000\n")


@pytest.mark.parametrize("key", ["", "a" * 256, "a\tb"])
async def test_bad_keys(daemon: Daemon, key: str) -> None:
    assert (await execute(daemon, key, SCRIPT))[0] == 400
    assert not (daemon.work_dir / "runs").exists()


async def test_sessions_have_it_too(daemon: Daemon) -> None:
    headers = {"Idempotency-Key": "k", "X-Daytona-SDK-Version": "0.226.1"}
    for _ in range(2):
        async with daemon.http.post("/process/session", json={"sessionId": "s"}, headers=headers) as response:
            assert response.status == 201
    ids = set()
    for _ in range(2):
        body = {"command": "echo run >> runs; echo out"}
        async with daemon.http.post("/process/session/s/exec", json=body, headers=headers) as response:
            answer = await response.json()
            assert answer["stdout"] == "out\n"
            ids.add(answer["cmdId"])
    assert len(ids) == 1
    assert (daemon.work_dir / "runs").read_text() == "run\n"


async def test_an_answer_outlives_the_daemon(serve_config: Callable[..., ServeConfig]) -> None:
    config = serve_config()
    async with run_daemon(config) as daemon:
        first = await execute(daemon, "k", SCRIPT)
    async with run_daemon(config) as daemon:
        assert await execute(daemon, "k", SCRIPT) == first
        assert (daemon.work_dir / "runs").read_text() == "run\n"


async def test_what_a_killed_daemon_was_at_is_never_run_again(
    start_toolboxd: Callable[..., Awaitable[Toolboxd]], reap_orphans: None
) -> None:
    async def post(port: int) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"http://127.0.0.1:{port}/process/execute",
                json={"command": "echo $$; echo run >> runs; sleep 1"},
                headers={"Idempotency-Key": "k"},
            ) as response,
        ):
            return response.status, await response.text()

    first = await start_toolboxd("serve", "--port", "0")
    running = asyncio.ensure_future(post(await first.port()))
    await asyncio.sleep(0.5)
    first.process.kill()
    with pytest.raises(aiohttp.ClientError):
        await running
    second = await start_toolboxd("serve", "--port", "0")
    status, text = await post(await second.port())
    assert status == 409
    assert "not known" in text
