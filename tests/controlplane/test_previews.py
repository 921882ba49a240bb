"""Programs in sandboxes seen from outside: by host name and by path, with every credential and without."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.controlplane.conftest import Plane

UNKNOWN = "0b0e7c1e-6f0f-4a52-9f3c-0d9b8f7c1a11"


class Program:
    """A server that stands for one in the sandbox: the process driver's sandboxes share the machine's loopback."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[dict[str, Any]] = []
        self.go = asyncio.Event()


async def answer(program: Program, request: web.Request) -> web.StreamResponse:
    headers = {name.lower(): value for name, value in request.headers.items()}
    program.seen.append({"method": request.method, "target": request.raw_path, "headers": headers})
    if request.path.endswith("/ws"):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket
    if request.path.endswith("/drip"):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await program.go.wait()
        await response.write(b"two")
        return response
    if request.path.endswith("/move"):
        return web.Response(status=302, headers={"Location": request.query["to"]})
    body = await request.read()
    return web.json_response({**program.seen[-1], "body": body.decode()})


@pytest.fixture
async def program() -> AsyncIterator[Program]:
    found = Program()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", partial(answer, found))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


class Visitor:
    """Somebody without an API key; names under `.localhost` are not looked up but mean the control plane."""

    def __init__(self, plane: Plane, http: aiohttp.ClientSession) -> None:
        self.plane, self.http = plane, http

    def to(self, url: str) -> tuple[str, dict[str, str]]:
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        return f"{self.plane.origin}{parts.path}{query}", {"Host": parts.netloc}

    @asynccontextmanager
    async def open(self, url: str, method: str = "GET", **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        target, host = self.to(url)
        headers = {**host, **options.pop("headers", {})}
        place = URL(target, encoded=True)
        async with self.http.request(method, place, headers=headers, allow_redirects=False, **options) as response:
            yield response

    async def get(self, url: str, expect: int = 200, **options: Any) -> Any:
        async with self.open(url, **options) as response:
            body = await response.text()
            assert response.status == expect, body
            return await response.json()


@pytest.fixture
async def visitor(plane: Plane) -> AsyncIterator[Visitor]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Visitor(plane, http)


@pytest.fixture
async def sandbox(plane: Plane) -> Any:
    return await plane.create()


async def link(plane: Plane, sandbox: Any, port: int) -> Any:
    return await plane.call("GET", f"/sandbox/{sandbox['id']}/ports/{port}/preview-url")


async def signed(plane: Plane, sandbox: Any, port: int, **query: Any) -> Any:
    return await plane.call("GET", f"/sandbox/{sandbox['id']}/ports/{port}/signed-preview-url", params=query)


async def test_the_link_says_where(plane: Plane, sandbox: Any) -> None:
    found = await link(plane, sandbox, 3000)
    own = urlsplit(plane.origin)
    assert found["sandboxId"] == sandbox["id"]
    assert found["url"] == f"http://3000-{sandbox['id']}.localhost:{own.port}"
    assert found["pathUrl"] == f"{plane.origin}/preview/3000/{sandbox['id']}"
    assert found == await link(plane, {"id": sandbox["name"]}, 3000)
    assert found["token"] != (await link(plane, sandbox, 3001))["token"]
    elsewhere = {"Host": "10.1.2.3:99"}
    found = await plane.call("GET", f"/sandbox/{sandbox['id']}/ports/3000/preview-url", headers=elsewhere)
    assert found["url"] == found["pathUrl"] == f"http://10.1.2.3:99/preview/3000/{sandbox['id']}"
    for port in ("0", "65536", "x", "1.5"):
        await plane.call("GET", f"/sandbox/{sandbox['id']}/ports/{port}/preview-url", expect=400)
    await plane.call("GET", "/sandbox/nobody/ports/3000/preview-url", expect=404)


async def test_private_needs_a_credential(plane: Plane, sandbox: Any, program: Program, visitor: Visitor) -> None:
    found, other = await link(plane, sandbox, program.port), await link(plane, sandbox, 3)
    whole = await link(plane, sandbox, 1)
    foreign = await link(plane, await plane.create(), program.port)
    for url in (found["url"], found["pathUrl"]):
        refused = await visitor.get(url + "/x", expect=401)
        assert (refused["statusCode"], "source" in refused) == (401, False)
        for wrong in ("", "wrong", "\udcff", other["token"], foreign["token"], found["token"][:-1]):
            await visitor.get(url + "/x", expect=401, headers={"X-Daytona-Preview-Token": wrong})
        await visitor.get(f"{url}/x?DAYTONA_SANDBOX_AUTH_KEY={other['token']}", expect=401)
        await visitor.get(f"{url}/x?DAYTONA_SANDBOX_AUTH_KEY={plane.api_key}", expect=401)
        await visitor.get(url + "/x", expect=401, headers={"Authorization": f"Bearer {found['token']}"})
    assert program.seen == []
    for url in (found["url"], found["pathUrl"]):
        for token in (found["token"], whole["token"]):
            await visitor.get(url + "/x", headers={"X-Daytona-Preview-Token": token})
            await visitor.get(f"{url}/x?a=1&DAYTONA_SANDBOX_AUTH_KEY={token}&b=2")
        await visitor.get(url + "/x", headers={"Authorization": f"Bearer {plane.api_key}"})
    assert {seen["target"] for seen in program.seen} == {"/x", "/x?a=1&b=2"}


async def test_no_credential_reaches_the_program_or_the_log(
    plane: Plane, sandbox: Any, program: Program, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "toolbox.access")
    found, given = await link(plane, sandbox, program.port), await signed(plane, sandbox, program.port)
    secrets = (found["token"], given["token"], plane.api_key)
    cookie = {"Cookie": f"daytona-sandbox-auth-{sandbox['id']}={found['token']}; kept=1"}
    for url, headers in (
        (found["url"], {"X-Daytona-Preview-Token": found["token"], **cookie}),
        (found["pathUrl"], {"Authorization": f"Bearer {plane.api_key}", **cookie}),
        (f"{found['url']}/?DAYTONA_SANDBOX_AUTH_KEY={found['token']}", cookie),
        (given["url"] + "/", {"Referer": given["url"] + "/page", "Origin": given["url"].upper(), **cookie}),
        (given["pathUrl"] + "/", {"Referer": given["pathUrl"] + "/page", **cookie}),
    ):
        target = url if "?" in url or url.endswith("/") else url + "/"
        seen = await visitor.get(target, headers=headers)
        assert not [secret for secret in secrets if secret.lower() in str(seen).lower()], seen
        assert seen["headers"]["cookie"] == "kept=1"
        assert seen["headers"]["host"] == f"localhost:{program.port}"
        assert given["token"] not in seen["headers"]["x-forwarded-host"]
        assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert not [secret for secret in secrets if secret in str([vars(record) for record in caplog.records])]
    assert any("preview" in str(vars(record)) for record in caplog.records)
    # The program's own use of the header is its own.
    own = {"Authorization": "Basic YTpi", "X-Daytona-Preview-Token": found["token"]}
    assert (await visitor.get(found["url"] + "/", headers=own))["headers"]["authorization"] == "Basic YTpi"


async def test_public_opens_without(plane: Plane, program: Program, visitor: Visitor) -> None:
    sandbox = await plane.create(public=True)
    found = await link(plane, sandbox, program.port)
    for url in (found["url"], found["pathUrl"]):
        async with visitor.open(url + "/some%2Fpath//?q=%20", method="POST", data=b"text") as response:
            seen = await response.json()
        assert (seen["method"], seen["target"], seen["body"]) == ("POST", "/some%2Fpath//?q=%20", "text")
        # What a program calls /api is not ours.
        await visitor.get(url + "/api/sandbox/")
        await visitor.get(url + "/healthz")
    assert program.seen[-1]["target"] == "/healthz"
    await plane.call("POST", f"/sandbox/{sandbox['id']}/public/false")
    await visitor.get(found["url"] + "/", expect=401)
    await plane.call("POST", f"/sandbox/{sandbox['id']}/public/true")
    await visitor.get(found["url"] + "/")


async def test_only_preview_hosts_are_previews(plane: Plane, sandbox: Any, visitor: Visitor) -> None:
    port = urlsplit(plane.origin).port
    for host in ("localhost", "127.0.0.1", f"3000-{sandbox['id']}.evil.example", "x.localhost", "3000-.localhost"):
        await plane.call("GET", f"/sandbox/{sandbox['id']}", headers={"Host": f"{host}:{port}"})
    await visitor.get(f"http://3000-{UNKNOWN}.localhost/", expect=404)
    await visitor.get(f"http://99999-{sandbox['id']}.localhost/", expect=400)
    await visitor.get(f"http://3000-{UNKNOWN}.localhost/api/sandbox", expect=404)
    await visitor.get(f"{plane.origin}/preview/3000/{UNKNOWN}/", expect=404)
    await visitor.get(f"{plane.origin}/preview/x/{sandbox['id']}/", expect=400)


async def test_streams_and_websockets(plane: Plane, sandbox: Any, program: Program, visitor: Visitor) -> None:
    found = await link(plane, sandbox, program.port)
    token = {"X-Daytona-Preview-Token": found["token"]}
    for url in (found["url"], found["pathUrl"]):
        program.go.clear()
        async with visitor.open(url + "/drip", headers=token) as response:
            assert await response.content.readexactly(3) == b"one"
            program.go.set()
            assert await response.content.readexactly(3) == b"two"
        target, host = visitor.to(f"{url}/ws?DAYTONA_SANDBOX_AUTH_KEY={found['token']}")
        async with visitor.http.ws_connect(target, headers=host) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "HELLO"


async def test_redirects_stay_in_the_preview(plane: Plane, program: Program, visitor: Visitor) -> None:
    found = await link(plane, await plane.create(public=True), program.port)
    path = urlsplit(found["pathUrl"]).path
    for url, prefix in ((found["url"], ""), (found["pathUrl"], path)):
        for to in ("/login?x=1", f"http://localhost:{program.port}/login?x=1"):
            async with visitor.open(f"{url}/move", params={"to": to}) as response:
                assert response.headers["Location"] == f"{prefix}/login?x=1"
        async with visitor.open(f"{url}/move?to=http://localhost:1{program.port}/") as response:
            assert response.headers["Location"] == f"http://localhost:1{program.port}/"
    async with visitor.open(found["pathUrl"] + "?x=1") as response:
        assert (response.status, response.headers["Location"]) == (307, path + "/?x=1")


async def test_a_browser_keeps_what_the_query_brought(
    plane: Plane, sandbox: Any, program: Program, visitor: Visitor
) -> None:
    found = await link(plane, sandbox, program.port)
    key = f"/?DAYTONA_SANDBOX_AUTH_KEY={found['token']}"
    async with visitor.open(found["url"] + key) as response:
        cookie = response.headers["Set-Cookie"]
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
    kept = {"Cookie": cookie.partition(";")[0]}
    await visitor.get(found["url"] + "/style.css", headers=kept)
    await visitor.get(found["url"] + "/", headers={**kept, "Origin": found["url"]})
    await visitor.get(found["url"] + "/", headers={**kept, "Origin": "http://evil.example"}, expect=401)
    await visitor.get(found["pathUrl"] + "/", headers=kept, expect=401)
    async with visitor.open(found["pathUrl"] + key) as response:
        assert response.status == 200
        assert "Set-Cookie" not in response.headers


async def test_signed_links(plane: Plane, sandbox: Any, program: Program, visitor: Visitor) -> None:
    from datetime import UTC, datetime

    found = await signed(plane, sandbox, program.port)
    left = (datetime.fromisoformat(found["expiresAt"]) - datetime.now(UTC)).total_seconds()
    assert 30 < left <= 60
    assert (found["sandboxId"], found["port"]) == (sandbox["id"], program.port)
    assert found["url"] == f"http://{program.port}-{found['token']}.localhost:{urlsplit(plane.origin).port}"
    assert found["token"].isalnum()
    for url in (found["url"], found["pathUrl"], found["url"].replace(found["token"], found["token"].upper())):
        async with visitor.open(url + "/page") as response:
            assert response.status == 200
            assert response.headers["Referrer-Policy"] == "same-origin"
    # It opens one port, by this name only.
    for url in (found["url"], found["pathUrl"]):
        await visitor.get(url.replace(str(program.port), "3", 1) + "/page", expect=404)
    await visitor.get(f"{plane.origin}/preview/{program.port}/{found['token'][:-1]}a/", expect=404)
    as_header = {"X-Daytona-Preview-Token": found["token"]}
    await visitor.get((await link(plane, sandbox, program.port))["url"] + "/", headers=as_header, expect=401)
    expire = f"/signed-preview-url/{found['token']}/expire"
    await plane.call("POST", f"/sandbox/{sandbox['id']}/ports/3{expire}")
    await visitor.get(found["url"] + "/")
    for _ in range(2):
        await plane.call("POST", f"/sandbox/{sandbox['id']}/ports/{program.port}{expire}")
        await visitor.get(found["url"] + "/", expect=404)
    for seconds in (0, -1, 86401, "x"):
        path = f"/sandbox/{sandbox['id']}/ports/3000/signed-preview-url?expiresInSeconds={seconds}"
        await plane.call("GET", path, expect=400)


async def test_signed_links_expire(
    plane: Plane, sandbox: Any, program: Program, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controlplane.grants import Grant

    found = await signed(plane, sandbox, program.port, expiresInSeconds=3600)
    await visitor.get(found["url"] + "/")
    monkeypatch.setattr(Grant, "seconds_left", -1.0)
    await visitor.get(found["url"] + "/", expect=404)
    await visitor.get(found["pathUrl"] + "/", expect=404)


async def test_stopped_and_deleted(plane: Plane, sandbox: Any, program: Program, visitor: Visitor) -> None:
    found, given = await link(plane, sandbox, program.port), await signed(plane, sandbox, program.port)
    token = {"X-Daytona-Preview-Token": found["token"]}
    await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    assert (await visitor.get(found["url"] + "/", headers=token, expect=409))["code"] == "CONFLICT"
    await visitor.get(given["url"] + "/", expect=409)
    await visitor.get(found["url"] + "/", expect=401)
    await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    await visitor.get(found["url"] + "/", headers=token)
    await visitor.get(given["url"] + "/")
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    await visitor.get(found["url"] + "/", headers=token, expect=404)
    await visitor.get(given["url"] + "/", expect=404)


async def test_nobody_listens(plane: Plane, sandbox: Any, visitor: Visitor, unused_tcp_port: int) -> None:
    found = await link(plane, sandbox, unused_tcp_port)
    refused = await visitor.get(found["url"] + "/", headers={"X-Daytona-Preview-Token": found["token"]}, expect=502)
    assert refused["code"] == "BAD_GATEWAY"


async def test_looking_is_no_activity(plane: Plane, sandbox: Any, program: Program, visitor: Visitor) -> None:
    before = (await plane.call("GET", f"/sandbox/{sandbox['id']}"))["lastActivityAt"]
    found = await link(plane, sandbox, program.port)
    await visitor.get(found["url"] + "/", headers={"X-Daytona-Preview-Token": found["token"]})
    assert (await plane.call("GET", f"/sandbox/{sandbox['id']}"))["lastActivityAt"] == before


async def test_toolbox_websockets_open_with_the_token_of_port_1(plane: Plane, sandbox: Any, visitor: Visitor) -> None:
    whole, one_port = await link(plane, sandbox, 1), await link(plane, sandbox, 3000)
    url = f"{plane.origin}/toolbox/{sandbox['id']}/process/interpreter/nothing?DAYTONA_SANDBOX_AUTH_KEY="
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    await visitor.get(url + whole["token"], headers=upgrade, expect=404)  # let in, and there is no such route
    for token in (one_port["token"], "", "x"):
        await visitor.get(url + token, headers=upgrade, expect=401)
    await visitor.get(url + whole["token"], expect=401)
    other = await plane.create()
    await visitor.get((url + whole["token"]).replace(sandbox["id"], other["id"]), headers=upgrade, expect=401)


async def test_previews_of_a_domain_of_ones_own(tmp_path: Any, program: Program) -> None:
    from tests.controlplane.conftest import plane_on

    options = {"preview_domain": "preview.example.com", "public_url": "https://box.example.com"}
    async with plane_on(tmp_path / "state", **options) as plane, aiohttp.ClientSession() as http:
        sandbox = await plane.create(public=True)
        found = await link(plane, sandbox, program.port)
        assert found["url"] == f"https://{program.port}-{sandbox['id']}.preview.example.com"
        assert found["pathUrl"] == f"https://box.example.com/preview/{program.port}/{sandbox['id']}"
        await Visitor(plane, http).get(found["url"] + "/")
