"""Who gets in: every route of both servers, asked by strangers, by foreign web pages, by keys that may not."""

import ast
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import aiohttp
import pytest

import controlplane.app
import controlplane.egress.proxy
import controlplane.keys
import controlplane.objectstore.credentials
import controlplane.objectstore.sigv4
import toolbox.app
import toolbox.web.auth
import toolbox.web.signing
from controlplane.grants import digest_of
from tests.conftest import Daemon, run_daemon
from tests.controlplane.conftest import Plane
from toolbox.config import ServeConfig
from toolbox.web.auth import PUBLIC_PATHS
from toolbox.web.endpoint import Endpoint

TOKEN = "the-token-of-this-test"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
WORDS = {"port": "8080", "minutes": "5", "kind": "autostop", "public": "true", "window_id": "1", "tail": "x"}
OPEN = {*PUBLIC_PATHS, "/api/config"}


def requests_of(endpoints: Sequence[Endpoint]) -> Iterator[tuple[str, str]]:
    """Yield a request for each route: method and path."""
    for endpoint in endpoints:
        for path in (endpoint.path, *endpoint.aliases):
            concrete = re.sub(r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})*)?\}", lambda word: WORDS.get(word[1], "box"), path)
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH") if endpoint.method == "*" else (endpoint.method,):
                yield method, concrete


@pytest.fixture
async def guarded(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    async with run_daemon(serve_config(token=TOKEN, signing_key="key", sandbox_id="box")) as daemon:
        yield daemon


WRONG: Sequence[dict[str, str]] = (
    {},
    UPGRADE,
    {"Authorization": "Bearer wrong", "X-Daytona-Preview-Token": TOKEN[:-1]},
)


async def test_no_route_of_the_daemon_opens_without_the_token(guarded: Daemon) -> None:
    asked = 0
    for method, path in requests_of(toolbox.app.endpoints()):
        for headers in WRONG:
            for prefix in ("", "/toolbox/box"):
                async with guarded.http.request(
                    method, prefix + path, headers=headers, allow_redirects=False
                ) as response:
                    assert response.status == (200 if path in OPEN else 401), (method, path, headers)
                    asked += 1
    assert asked > 800


async def test_no_route_of_the_control_plane_opens_without_a_key(plane: Plane) -> None:
    box = await plane.create(name="box")
    asked = 0
    async with aiohttp.ClientSession(plane.origin) as stranger:
        for method, path in requests_of([*controlplane.app.ENDPOINTS, Endpoint(**PAGE), Endpoint(**DOCUMENT)]):
            for headers in WRONG:
                real = path.replace("/box", f"/{box['id']}")
                async with stranger.request(method, real, headers=headers, allow_redirects=False) as response:
                    if path in OPEN:
                        assert response.ok
                    elif path.startswith("/s3/"):
                        assert response.status == 403, (method, path)  # as S3 says it
                    elif path.startswith("/api/socket.io"):
                        assert response.status in (400, 404), (method, path)  # it asks within the connection
                    else:
                        assert response.status == 401, (method, path, headers)
                asked += 1
    assert asked > 250


DOCUMENT: dict[str, Any] = {
    "method": "GET", "path": "/openapi.json", "function": requests_of, "operation": "", "tag": "", "status": 200,
}  # fmt: skip
PAGE = DOCUMENT | {"path": "/swagger"}


READS = {
    ("POST", "/api/sandbox/box/last-activity"),
}


async def test_a_key_without_permissions_only_looks(plane: Plane) -> None:
    box = await plane.create(name="box")
    made = await plane.call("POST", "/api-keys", 201, json={"name": "looking", "permissions": []})
    headers = {"Authorization": f"Bearer {made['value']}"}
    refused = 0
    async with aiohttp.ClientSession(plane.origin, headers=headers) as http:
        for method, path in requests_of(controlplane.app.ENDPOINTS):
            thing = path.split("/")[2] if path.startswith("/api/") else path.split("/")[1]
            changes = method != "GET" and thing in (
                "sandbox",
                "snapshots",
                "volumes",
                "secret",
                "warm-pools",
                "leftovers",
            )
            if not changes and not path.startswith(("/toolbox/", "/api/object-storage", "/api/audit")):
                continue
            async with http.request(method, path.replace("/box", f"/{box['id']}"), json={}) as response:
                assert response.status == 403, (method, path, await response.text())
            refused += 1
        for path in ("signing-key", "ports/1/preview-url"):
            async with http.get(f"/api/sandbox/box/{path}") as response:
                assert response.status == 403, path
        async with http.get(f"/toolbox/{box['id']}/process/pty/create-connect?id=x", headers=UPGRADE) as response:
            assert response.status == 403
        async with http.get("/api/sandbox/box") as response:
            assert response.status == 200
        async with http.post("/api/api-keys", json={"name": "more", "permissions": ["write:sandboxes"]}) as response:
            assert response.status == 403
    assert refused > 40


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe", "Referer": "https://evil.example/"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe", "Referer": "http://localhost:3000/"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document", "Referer": "https://docs.example/"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "2130706433"}, 403),
    ],
)
async def test_foreign_pages_and_names_are_refused(daemon: Daemon, headers: dict[str, str], status: int) -> None:
    async with daemon.http.get("/version", headers=headers) as response:
        assert response.status == status
    if status == 403:
        async with daemon.http.get("/process/pty/create-connect?id=x", headers={**UPGRADE, **headers}) as response:
            assert response.status == 403
        async with daemon.http.post("/process/execute", json={"command": "touch x"}, headers=headers) as response:
            assert response.status == 403
        assert not (daemon.work_dir / "x").exists()


COMPARED = (
    toolbox.web.auth.Auth.accepts,
    toolbox.web.signing.Signatures.verify,
    controlplane.keys.SandboxKeys.opens_preview,
    controlplane.egress.proxy,
    controlplane.objectstore.credentials,
    controlplane.objectstore.sigv4,
)
"""What compares a secret with what a caller brings."""


@pytest.mark.parametrize("place", COMPARED, ids=lambda place: place.__name__)
def test_secrets_are_compared_in_constant_time(place: Any) -> None:
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(place)))
    called = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert "compare_digest" in called
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            assert not names & {"token", "given", "expected", "signature", "secret", "seal"}, ast.unparse(node)


async def test_keys_are_looked_up_by_digest(plane: Plane) -> None:
    """Time tells at most something of a digest, which nobody can aim at; and a digest is no key."""
    found = plane.state_dir / "controlplane/sandboxes.sqlite"
    made = await plane.call("POST", "/api-keys", 201, json={"name": "one", "permissions": []})
    digest = digest_of(made["value"])
    kept = b"".join(each.read_bytes() for each in found.parent.glob("sandboxes.sqlite*"))
    assert digest.encode() in kept
    assert made["value"].encode() not in kept
    await plane.call("GET", "/sandbox", 401, headers={"Authorization": f"Bearer {digest}"})
