"""Taking a daemon into use that was started to wait for `/init`."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import Daemon, run_daemon
from toolbox.app import endpoints
from toolbox.config import ServeConfig

TOKEN = "a-token-of-this-test"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
BEFORE = {"GetHealth", "GetReadiness", "Initialize"}

Config = Callable[..., ServeConfig]


async def ask(daemon: Daemon, method: str, path: str, **options: Any) -> tuple[int, object]:
    async with daemon.http.request(method, path, **options) as response:
        return response.status, await response.json()


async def initialize(daemon: Daemon, **body: object) -> int:
    return (await ask(daemon, "POST", "/init", json=body))[0]


async def test_before_it_nothing_else_answers(serve_config: Config) -> None:
    async with run_daemon(serve_config(auth="init", host="0.0.0.0", signing_key="k" * 32)) as daemon:
        for endpoint in endpoints():
            if endpoint.operation in BEFORE:
                continue
            path = re.sub(r"\{(\w+)(:[^}]*)?\}", "1", endpoint.path)
            status, answer = await ask(daemon, endpoint.method.replace("*", "GET"), path)
            assert (status, isinstance(answer, dict) and answer["code"]) == (401, "UNAUTHORIZED"), path
        for path in ("/", "/files/download?path=/etc/passwd&signature=x&expires=9999999999", "/version?token="):
            assert (await ask(daemon, "GET", path, headers={"Authorization": "Bearer "}))[0] == 401, path
        for path in ("/healthz", "/readyz"):
            assert (await ask(daemon, "GET", path))[0] == 200
        assert await initialize(daemon) == 400


async def test_of_many_at_once_exactly_one_wins(serve_config: Config) -> None:
    async with run_daemon(serve_config(auth="init")) as daemon:
        tokens = [f"token-{number}" for number in range(20)]
        statuses = await asyncio.gather(*(initialize(daemon, token=each, env={"WHOSE": each}) for each in tokens))
        assert sorted(statuses) == [200, *[409] * 19]
        winner = tokens[statuses.index(200)]
        daemon.http.headers["Authorization"] = f"Bearer {winner}"
        assert (await daemon.execute("echo $WHOSE"))["result"] == f"{winner}\n"


async def test_repeating_it_changes_nothing(serve_config: Config) -> None:
    async with run_daemon(serve_config(auth="init")) as daemon:
        assert await initialize(daemon, token=TOKEN, env={"A": "1"}) == 200
        daemon.http.headers.update(AUTHORIZED)
        assert (await ask(daemon, "POST", "/env", json={"set": {"A": "2"}}))[0] == 200
        del daemon.http.headers["Authorization"]
        assert await initialize(daemon, token=TOKEN, env={"A": "1"}) == 200
        assert await initialize(daemon, token="another", env={"A": "3"}) == 409
        assert await initialize(daemon, env={"A": "3"}) == 400
        daemon.http.headers.update(AUTHORIZED)
        assert (await daemon.execute("echo $A"))["result"] == "2\n"


@pytest.mark.parametrize("body", [{"env": {"1A": "x"}}, {"env": {"A": "x\0"}}, {"env": [1]}, {"token": 1}])
async def test_a_bad_request_changes_nothing(serve_config: Config, body: dict[str, object]) -> None:
    async with run_daemon(serve_config(auth="init")) as daemon:
        assert await initialize(daemon, **{"token": "first", **body}) == 400
        assert await initialize(daemon, token=TOKEN) == 200
        daemon.http.headers.update(AUTHORIZED)
        assert (await daemon.execute("echo ${A-unset}"))["result"] == "unset\n"


async def entrypoint_output(daemon: Daemon) -> str:
    """Return all that the entrypoint prints, once it has ended."""
    path = "/process/session/entrypoint/logs?follow=true"
    async with daemon.http.get(path, headers={"Accept": "text/event-stream"}) as response:
        assert response.status == 200, await response.text()
        return await response.text()


@pytest.mark.parametrize("by_init", [True, False], ids=["with /init", "by /env"])
async def test_the_entrypoint_waits_for_its_variables(serve_config: Config, by_init: bool) -> None:
    program = ("sh", "-c", "echo started-$WHOSE; touch started")
    async with run_daemon(replace(serve_config(auth="init"), entrypoint=program)) as daemon:
        if by_init:
            assert await initialize(daemon, token=TOKEN, env={"WHOSE": "mine"}) == 200
        else:
            assert await initialize(daemon, token=TOKEN) == 200
        daemon.http.headers.update(AUTHORIZED)
        if not by_init:
            assert (await ask(daemon, "GET", "/process/session/entrypoint"))[0] == 404
            assert not (daemon.work_dir / "started").exists()
            assert (await ask(daemon, "POST", "/env", json={"set": {"WHOSE": "mine"}}))[0] == 200
        assert "started-mine" in await entrypoint_output(daemon)
        # It is started once, whatever comes later.
        assert (await ask(daemon, "POST", "/env", json={"set": {"WHOSE": "other"}}))[0] == 200
        assert await initialize(daemon, token=TOKEN, env={}) == 200
        assert "started-other" not in await entrypoint_output(daemon)


async def test_without_waiting_the_entrypoint_starts_with_the_daemon(serve_config: Config) -> None:
    async with run_daemon(replace(serve_config(), entrypoint=("echo", "begun"))) as daemon:
        assert "begun" in await entrypoint_output(daemon)
