"""Spans and metrics as a collector gets them, of the daemon and of the control plane."""

import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace

import aiohttp
import pytest

from tests.conftest import Daemon, Toolboxd, run_daemon
from tests.controlplane.conftest import plane_on
from tests.telemetry.collector import Collector, collecting, points
from toolbox.config import ServeConfig
from toolbox.telemetry.settings import Settings

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
SERVER, INTERNAL = 2, 1
SECRETS = ("t0p-s3cret", "k3y-of-the-collector", "c0mmand-text", "t0ken")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running:
        yield running


@pytest.fixture
def variables(collector: Collector, environ: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the environment of a process that exports, which is also ours."""
    chosen = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=k3y-of-the-collector",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
    }
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    return chosen


@pytest.fixture
async def exporting(serve_config: Callable[..., ServeConfig], variables: dict[str, str]) -> AsyncIterator[Daemon]:
    config = serve_config(token="t0ken", sandbox_id="box")
    async with run_daemon(replace(config, telemetry=Settings.load(variables)), Authorization="Bearer t0ken") as daemon:
        yield daemon


class TestDaemon:
    async def test_a_trace_goes_on_in_requests_and_commands(self, exporting: Daemon, collector: Collector) -> None:
        body = {"command": "true c0mmand-text; exit 3", "envs": {"A": "t0p-s3cret"}}
        async with exporting.http.post("/process/execute", json=body, headers=TRACEPARENT) as response:
            request_id = response.headers["X-Request-Id"]
        request = await collector.named("POST /process/execute")
        assert (request.trace, request.parent, request.kind, request.failed) == (TRACE, PARENT, SERVER, False)
        assert request.attributes == {
            "http.request.method": "POST",
            "http.route": "/process/execute",
            "url.scheme": "http",
            "http.response.status_code": 200,
            "toolbox.operation": "ExecuteCommand",
            "toolbox.request_id": request_id,
        }
        command = await collector.named("bash")
        assert (command.trace, command.parent, command.kind) == (TRACE, request.id, INTERNAL)
        assert command.attributes == {"process.executable.name": "bash", "process.exit.code": 3}
        expected = {"service.name": "sandbox-box", "sandbox.id": "box", "deployment.environment": "test"}
        assert expected.items() <= request.resource.items()

    async def test_no_secret_is_exported(self, exporting: Daemon, collector: Collector) -> None:
        query = {"path": "t0p-s3cret", "DAYTONA_SANDBOX_AUTH_KEY": "t0ken"}
        async with exporting.http.get("/files/info", params=query) as response:
            assert response.status == 404
        await exporting.execute("echo c0mmand-text")
        async with exporting.http.get("/t0p-s3cret") as response:
            assert response.status == 404
        await collector.named("bash")
        await collector.named("GET", http_response_status_code=404, toolbox_operation="unknown")
        await collector.wait(lambda it: it.metrics)
        for secret in SECRETS:
            assert secret.encode() not in collector.raw
        assert all(each["x-key"] == "k3y-of-the-collector" for each in collector.headers)

    async def test_commands_of_sessions(self, exporting: Daemon, collector: Collector) -> None:
        async with exporting.http.post("/process/session", json={"sessionId": "s"}):
            pass
        url, failing, killed = "/process/session/s/exec", "(exit 4) # c0mmand-text", "kill -9 $$"
        async with exporting.http.post(url, json={"command": failing}, headers=TRACEPARENT) as response:
            assert response.status == 200
        command = await collector.named("session command", process_exit_code=4)
        request = await collector.wait(lambda it: next((each for each in it.spans if each.id == command.parent), None))
        assert (command.trace, request.name) == (TRACE, "POST /process/session/{session_id}/exec")
        async with exporting.http.post(url, json={"command": killed}):
            pass
        assert (await collector.named("session command", process_exit_code=137)).failed

    async def test_metrics_are_those_of_the_scrape(self, exporting: Daemon, collector: Collector) -> None:
        for _ in range(3):
            async with exporting.http.get("/version"):
                pass
        await collector.wait(
            lambda it: (
                "toolbox_requests" in it.metrics
                and points(it.metrics["toolbox_requests"]).get(("GetVersion", "200")) == 3
            )
        )
        latency = await collector.wait(lambda it: it.metrics.get("toolbox_request_seconds"))
        assert points(latency)["GetVersion",] == 3
        async with exporting.http.get("/metrics") as response:
            text = await response.text()
        shown = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
        # A name without a value is in a scrape, but is not exported.
        assert {name.removesuffix("_total") for name in shown} - set(collector.metrics) <= {"toolbox_events"}
        assert points(collector.metrics["daytona.sandbox.memory.limit"])[()] > 1_000_000
        assert collector.resources[0]["service.name"] == "sandbox-box"

    async def test_children_do_not_see_where_it_goes(self, exporting: Daemon) -> None:
        assert (await exporting.execute("env | grep -c ^OTEL_"))["result"] == "0\n"

    async def test_text_of_commands_if_asked_for(
        self, serve_config: Callable[..., ServeConfig], variables: dict[str, str], collector: Collector
    ) -> None:
        config = serve_config(otel_command_text="true")
        async with run_daemon(replace(config, telemetry=Settings.load(variables))) as daemon:
            await daemon.execute("echo c0mmand-text")
        # The end of the daemon has sent what was left.
        assert (await collector.named("bash")).attributes["process.command_line"] == "echo c0mmand-text"

    async def test_health_is_not_traced(self, exporting: Daemon, collector: Collector) -> None:
        for path in ("/healthz", "/readyz", "/version"):
            async with exporting.http.get(path) as response:
                assert response.status == 200
        await collector.named("GET /version")
        assert [span.name for span in collector.spans] == ["GET /version"]


async def test_a_trace_goes_through_the_control_plane(
    variables: dict[str, str], collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with plane_on(tmp_path_factory.mktemp("state"), variables) as plane:
        box = await plane.create()
        await plane.toolbox("POST", box, "/process/execute", json={"command": "true"}, headers=TRACEPARENT)
        async with plane.http.get(f"{plane.origin}/toolbox/{box['id']}/proxy/1/", headers=TRACEPARENT) as response:
            assert response.status == 502
        request = await collector.named("POST /process/execute")
        passed = await collector.wait(lambda it: next((each for each in it.spans if each.id == request.parent), None))
        command = await collector.wait(lambda it: next((each for each in it.spans if each.parent == request.id), None))
        assert (passed.trace, request.trace, command.trace) == (TRACE,) * 3
        assert (passed.parent, passed.attributes["toolbox.operation"]) == (PARENT, "proxy")
        services = [each.resource["service.name"] for each in (passed, request, command)]
        assert services == ["sandbox-toolbox-controlplane", *[f"sandbox-{box['id']}"] * 2]
        assert (await collector.named("GET", http_response_status_code=502)).failed
        created = await collector.named("POST /api/sandbox")
        assert created.trace != TRACE
        assert plane.api_key.encode() not in collector.raw


async def test_a_sandbox_with_a_collector_of_its_own(
    variables: dict[str, str], collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with collecting() as other, plane_on(tmp_path_factory.mktemp("state"), variables) as plane:
        box = await plane.create(otelEndpointOverride=f"{other.endpoint}/")
        assert box["otelEndpointOverride"] == f"{other.endpoint}/"
        await plane.toolbox("POST", box, "/process/execute", json={"command": "true"}, headers=TRACEPARENT)
        request = await other.named("POST /process/execute")
        assert (request.trace, request.resource["service.name"]) == (TRACE, f"sandbox-{box['id']}")
        assert all("x-key" not in each for each in other.headers)
        await collector.named("POST /toolbox/{sandbox}")
        services = {each.resource["service.name"] for each in collector.spans}
        assert services == {"sandbox-toolbox-controlplane"}


async def test_the_reference_daemon_s_way(
    start_toolboxd: Callable[..., Awaitable[Toolboxd]], collector: Collector
) -> None:
    """Nothing is sent before `/init`; then with the token that it brings."""
    env = {
        "DAYTONA_OTEL_ENDPOINT": f"{collector.endpoint}/",
        "DAYTONA_SANDBOX_ID": "box",
        "DAYTONA_REGION_ID": "r1",
        "DAYTONA_SANDBOX_OTEL_EXTRA_LABELS": "team=a b, tier=2",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "TOOLBOX_AUTH": "init",
    }
    toolboxd = await start_toolboxd("serve", "--port", "0", env=env)
    url = f"http://127.0.0.1:{await toolboxd.port()}"
    async with aiohttp.ClientSession(url, headers={"Authorization": "Bearer brought"}) as http:
        async with http.get("/version") as response:
            assert response.status == 401
        async with http.post("/init", json={"token": "brought"}) as response:
            assert response.status == 200
        async with http.get("/version") as response:
            assert response.status == 200
    span = await collector.named("GET /version")
    assert len(collector.spans) == 1
    labels = {"daytona_region_id": "r1", "team": "a b", "tier": "2", "service.name": "sandbox-box"}
    assert labels.items() <= span.resource.items()
    assert {each.get("sandbox-auth-token") for each in collector.headers} == {"brought"}


@pytest.mark.parametrize("answers", [False, True])
async def test_a_collector_that_is_away_harms_nothing(
    start_toolboxd: Callable[..., Awaitable[Toolboxd]], answers: bool
) -> None:
    """Nobody listens there, or somebody who never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        if not answers:
            listener.close()
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_BSP_SCHEDULE_DELAY": "1",
            "OTEL_BSP_MAX_QUEUE_SIZE": "8",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
            "OTEL_METRIC_EXPORT_INTERVAL": "10",
        }
        toolboxd = await start_toolboxd("serve", "--port", "0", "--log-level", "warning", env=env)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{await toolboxd.port()}") as http:
            for _ in range(100):
                async with http.get("/version") as response:
                    assert response.status == 200
        code, errors = await toolboxd.end()
        assert code == 0, errors
        assert len(errors.splitlines()) <= 3, errors


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "the protocol is http/protobuf, not grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "k3y-of-the-collector", "a header for the collector is malformed"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "its variables cannot be used (ValueError)"),
    ],
)
async def test_what_cannot_be_exported_is_said(
    start_toolboxd: Callable[..., Awaitable[Toolboxd]], variable: str, value: str, said: str
) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", variable: value}
    toolboxd = await start_toolboxd("serve", "--port", "0", env=env)
    await toolboxd.port()
    code, errors = await toolboxd.end()
    assert code == 0
    assert said in errors
    assert "k3y" not in errors
