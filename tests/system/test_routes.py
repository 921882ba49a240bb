"""The system routes."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import Daemon, run_daemon
from toolbox import __version__
from toolbox.config import ServeConfig


async def get(daemon: Daemon, path: str) -> dict[str, object]:
    async with daemon.http.get(path) as response:
        assert response.status == 200
        answer: dict[str, object] = await response.json()
        return answer


async def test_version_and_directories(daemon: Daemon) -> None:
    assert await get(daemon, "/version") == {"version": f"v{__version__}"}
    assert await get(daemon, "/work-dir") == {"dir": str(daemon.work_dir)}
    home = (await daemon.execute("printf %s ~"))["result"]
    assert await get(daemon, "/user-home-dir") == await get(daemon, "/project-dir") == {"dir": home}


async def test_the_reference_variable_makes_home_the_work_dir(tmp_path: Path, environ: None) -> None:
    variables = {"HOME": str(tmp_path), "DAYTONA_USER_HOME_AS_WORKDIR": "true", "DAYTONA_SANDBOX_ID": "id-1"}
    config = ServeConfig.load({}, variables)
    assert (config.work_dir, config.sandbox_id) == (tmp_path, "id-1")


async def test_health(daemon: Daemon) -> None:
    assert await get(daemon, "/healthz") == {"status": "ok"}
    assert await get(daemon, "/readyz") == {"status": "ready"}


async def test_metrics_of_the_sandbox(daemon: Daemon) -> None:
    first = await get(daemon, "/system/metrics")
    assert first["cpuUsedPct"] == 0
    await daemon.execute("x=0; while [ $x -lt 30000 ]; do x=$((x+1)); done")
    metrics = await get(daemon, "/system/metrics")
    assert isinstance(metrics["cpuUsedPct"], float)
    assert metrics["cpuUsedPct"] > 0
    for name in ("cpuCount", "memTotal", "memUsed", "memCache", "diskTotal", "diskUsed", "diskFree", "timestampUnix"):
        assert isinstance(metrics[name], int), name
    assert int(str(metrics["memTotal"])) > int(str(metrics["memUsed"])) > 0
    when = datetime.fromisoformat(str(metrics["timestamp"]))
    assert int(when.timestamp()) == metrics["timestampUnix"]


async def test_prometheus_text(daemon: Daemon) -> None:
    await get(daemon, "/version")
    await get(daemon, "/version")
    async with daemon.http.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = (await response.text()).splitlines()
    assert 'toolbox_requests_total{operation="GetVersion",status="200"} 2.0' in lines
    assert 'toolbox_request_seconds_count{operation="GetVersion"} 2.0' in lines
    assert "toolbox_children 0.0" in lines
    assert any(line.startswith("toolbox_event_loop_lag_seconds ") for line in lines)


async def test_env_changes_what_later_children_inherit(daemon: Daemon) -> None:
    async def change(**body: object) -> None:
        async with daemon.http.post("/env", json=body) as response:
            assert response.status == 200

    await change(set={"A": "secret-1", "B": "secret-2", "C": "plain"})
    assert (await daemon.execute("echo $A $B $C"))["result"] == "secret-1 secret-2 plain\n"
    await change(set={"B": "secret-3"}, unset=["C"], unsetValuePrefix="secret-")
    assert (await daemon.execute("echo ${A-none} $B ${C-none}"))["result"] == "none secret-3 none\n"
    assert (await daemon.execute("echo $B", envs={"B": "request"}))["result"] == "request\n"


@pytest.mark.parametrize("body", [{"set": {"1A": "x"}}, {"unset": ["a-b"]}, {"set": {"A": "x\0"}}, {"set": [1]}])
async def test_bad_env_changes_are_refused_whole(daemon: Daemon, body: dict[str, object]) -> None:
    async with daemon.http.post("/env", json={"set": {"GOOD": "1"}, **body}) as response:
        assert response.status == 400
    assert (await daemon.execute("echo ${GOOD-unset}"))["result"] == "unset\n"


async def test_children_never_see_the_daemons_secrets(
    serve_config: Callable[..., ServeConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLBOX_TOKEN", "hidden")
    async with run_daemon(serve_config(token="hidden"), Authorization="Bearer hidden") as daemon:
        answer = await daemon.execute("env; cat /proc/$PPID/environ | tr '\\0' '\\n' | grep -c nothing")
        assert "TOOLBOX_TOKEN" not in str(answer["result"])
