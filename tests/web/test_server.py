"""The request path: envelope on every error, auth, origins, CORS, prefixes, limits, request ids, OpenAPI."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from openapi_spec_validator import validate

from tests.conftest import Daemon, run_daemon
from toolbox.config import ConfigError, ServeConfig

ENVELOPE = {"statusCode", "message", "source", "code", "timestamp", "path", "method", "error"}
TOKEN = "t0ken-of-this-test"


@pytest.fixture
async def guarded(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    config = serve_config(token=TOKEN, allow_origins="https://page.example, https://other.example")
    async with run_daemon(config) as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "NOT_FOUND"),
        ("POST", "/version", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/process/execute", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/%00", 404, "NOT_FOUND"),
        ("GET", "/" + "a" * 30_000, 404, "NOT_FOUND"),
        ("OPTIONS", "/version", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_errors_have_the_envelope(daemon: Daemon, method: str, path: str, status: int, code: str) -> None:
    async with daemon.http.request(method, path) as response:
        assert response.status == status
        assert response.headers["Content-Type"] == "application/json"
        answer = await response.json()
    assert answer.keys() >= ENVELOPE
    assert (answer["statusCode"], answer["code"], answer["method"]) == (status, code, method)


async def raw(daemon: Daemon, request: bytes) -> bytes:
    """Send bytes and return all that comes back until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(daemon.url.rpartition(":")[2]))
    writer.write(request)
    received = b""
    try:
        async with asyncio.timeout(10):
            while chunk := await reader.read(65536):
                received += chunk
    except ConnectionResetError:
        pass
    writer.close()
    return received


async def test_a_malformed_head_has_the_envelope_and_closes(daemon: Daemon) -> None:
    answer = await raw(daemon, b"GET / HTTP/9.9\r\nbad header\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert json.loads(body).keys() >= ENVELOPE


async def test_a_huge_header_is_refused_and_the_daemon_lives(daemon: Daemon) -> None:
    answer = await raw(daemon, b"GET /version HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000_000 + b"\r\n\r\n")
    assert answer == b"" or answer[:12] in (b"HTTP/1.0 400", b"HTTP/1.1 400", b"HTTP/1.1 431")
    async with daemon.http.get("/version") as response:
        assert response.status == 200


async def test_headers_up_to_64_kib_pass(daemon: Daemon) -> None:
    async with daemon.http.get("/version", headers={"X-Large": "a" * 60_000}) as response:
        assert response.status == 200


async def test_a_body_cut_short_starts_nothing(daemon: Daemon) -> None:
    body = b'{"command": "touch started"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", int(daemon.url.rpartition(":")[2]))
    writer.write(b"POST /process/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n" + body)
    await writer.drain()
    writer.close()
    await reader.read()
    await daemon.execute("true")
    assert not (daemon.work_dir / "started").exists()


async def test_a_json_body_over_the_limit_is_413(daemon: Daemon) -> None:
    async def zeros() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield bytes(1024 * 1024)

    async with daemon.http.post("/process/execute", data=zeros()) as response:
        assert response.status == 413
        assert (await response.json())["code"] == "PAYLOAD_TOO_LARGE"


async def test_request_ids(daemon: Daemon) -> None:
    async with daemon.http.get("/version") as one, daemon.http.get("/version") as two:
        assert one.headers["X-Request-Id"] != two.headers["X-Request-Id"]
    async with daemon.http.get("/version", headers={"X-Request-Id": "mine"}) as response:
        assert response.headers["X-Request-Id"] == "mine"
        assert "Server" not in response.headers


async def test_paths_with_the_sandbox_id_and_trailing_slashes(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(sandbox_id="box-1")) as daemon:
        for path in (
            "/version",
            "/box-1/version",
            "/toolbox/box-1/version",
            "/version/",
            "/box-1/version/?a=b",
            "/box-1//version",
        ):
            async with daemon.http.get(path) as response:
                assert response.status == 200, path
        for path in ("/box-2/version", "/box-1version", "/toolbox/version"):
            async with daemon.http.get(path) as response:
                assert response.status == 404, path


async def test_without_the_token_only_health_answers(guarded: Daemon) -> None:
    async with guarded.http.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        paths = (await response.json())["paths"]
    assert len(paths) > 5
    for path, operations in paths.items():
        for method in operations:
            async with guarded.http.request(method, path) as response:
                expected = 200 if path in ("/healthz", "/readyz") else 401
                assert response.status == expected, (method, path)
    async with guarded.http.get("/nope") as response:
        assert response.status == 401


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"Authorization": f"Bearer {TOKEN}"}, "", 200),
        ({"authorization": f"bearer {TOKEN}"}, "", 200),
        ({"x-daytona-preview-token": TOKEN}, "", 200),
        ({}, f"?DAYTONA_SANDBOX_AUTH_KEY={TOKEN}", 200),
        ({"Authorization": "Bearer wrong"}, "", 401),
        ({"Authorization": f"Basic {TOKEN}"}, "", 401),
        ({"Authorization": "Bearer é"}, "", 401),
        ({"Authorization": "Bearer "}, "", 401),
        ({}, "?DAYTONA_SANDBOX_AUTH_KEY=", 401),
    ],
)
async def test_credentials(guarded: Daemon, headers: dict[str, str], query: str, status: int) -> None:
    async with guarded.http.get(f"/version{query}", headers=headers) as response:
        assert response.status == status


async def test_the_query_key_is_not_a_credential_for_changes(guarded: Daemon) -> None:
    async with guarded.http.post(f"/process/execute?DAYTONA_SANDBOX_AUTH_KEY={TOKEN}", json={}) as response:
        assert response.status == 401


async def test_an_allowed_origin_may_call_with_the_token(guarded: Daemon) -> None:
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    asks["Access-Control-Request-Headers"] = "authorization,content-type"
    async with guarded.http.options("/process/execute", headers=asks) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
        assert response.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    headers = {"Origin": "https://page.example", "Authorization": f"Bearer {TOKEN}"}
    async with guarded.http.get("/version", headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
    async with guarded.http.get("/version", headers={"Origin": "https://page.example"}) as response:
        assert response.status == 401
        assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"


async def test_another_origin_gets_no_permission(guarded: Daemon) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with guarded.http.options("/process/execute", headers=asks) as response:
        assert response.status == 401
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "[::1]:5"}, 200),
        ({"Host": "box.localhost:80"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
    ],
)
async def test_without_a_token_foreign_pages_are_refused(daemon: Daemon, headers: dict[str, str], status: int) -> None:
    async with daemon.http.get("/version", headers=headers) as response:
        assert response.status == status


async def test_init_brings_the_token_once(daemon: Daemon) -> None:
    async with daemon.http.post("/init", json={}) as response:
        assert response.status == 200
    async with daemon.http.post("/init", json={"token": "first"}) as response:
        assert response.status == 200
    async with daemon.http.get("/version") as response:
        assert response.status == 401
    headers = {"Authorization": "Bearer first"}
    async with daemon.http.post("/init", json={"token": "first"}, headers=headers) as response:
        assert response.status == 200
    async with daemon.http.post("/init", json={"token": "second"}, headers=headers) as response:
        assert response.status == 409
    async with daemon.http.get("/version", headers=headers) as response:
        assert response.status == 200


async def test_waiting_for_init_nothing_else_works(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(auth="init")) as daemon:
        async with daemon.http.get("/version") as response:
            assert response.status == 401
        async with daemon.http.post("/init", json={"token": "abc"}) as response:
            assert response.status == 200
        async with daemon.http.get("/version", headers={"Authorization": "Bearer abc"}) as response:
            assert response.status == 200


async def test_bound_to_all_interfaces_a_token_is_made(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(host="0.0.0.0")) as daemon, daemon.http.get("/version") as response:
        assert response.status == 401


async def test_opting_out_of_auth(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(host="0.0.0.0", auth="none")) as daemon:
        async with daemon.http.get("/version", headers={"Host": "box.example", "Origin": "https://a.b"}) as response:
            assert response.status == 200


async def test_local_auth_needs_a_local_address(serve_config: Callable[..., ServeConfig]) -> None:
    with pytest.raises(ConfigError):
        await run_daemon(serve_config(host="0.0.0.0", auth="local")).__aenter__()


async def test_a_unix_socket(serve_config: Callable[..., ServeConfig], tmp_path: object) -> None:
    path = f"{tmp_path}/d.sock"
    async with (
        run_daemon(serve_config(socket=path)),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as client,
        client.get("http://anything/version") as response,
    ):
        assert response.status == 200


async def test_a_port_in_use_is_an_os_error(daemon: Daemon, serve_config: Callable[..., ServeConfig]) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await run_daemon(serve_config(port=daemon.url.rpartition(":")[2])).__aenter__()


async def test_the_openapi_document_is_valid_and_complete(daemon: Daemon) -> None:
    async with daemon.http.get("/openapi.json") as response:
        document = await response.json()
    await asyncio.to_thread(validate, document)
    assert document["openapi"] == "3.1.0"
    operation = document["paths"]["/process/execute"]["post"]
    assert operation["operationId"] == "ExecuteCommand"
    schema = document["components"]["schemas"]["ExecuteRequest"]
    assert set(schema["properties"]) == {"command", "cwd", "envs", "timeout"}
    async with daemon.http.get("/swagger") as response:
        assert "openapi.json" in await response.text()


async def test_fifty_clients_that_say_nothing_do_not_stop_the_rest(daemon: Daemon) -> None:
    port = int(daemon.url.rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    try:
        async with daemon.http.get("/healthz") as response:
            assert response.status == 200
    finally:
        for each in idle:
            each.close()
