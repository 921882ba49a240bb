"""Signed file URLs through the proxy: one method, one file, for whoever has the link."""

import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from yarl import URL

from tests.controlplane.conftest import Plane
from toolbox.web.signing import sign


@pytest.fixture
async def stranger() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def key_of(plane: Plane, sandbox: Any, path: str = "", method: str = "GET") -> str:
    url = f"{plane.api_url}/sandbox/{sandbox['id']}/signing-key{path}"
    async with plane.http.request(method, url) as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        return await response.text()


def link(plane: Plane, sandbox: Any, key: str, *, method: str = "GET", path: str = "a", expires: int = 0) -> str:
    route = "/files/download" if method == "GET" else "/files/upload-v2"
    query = {"path": path, "expires": expires, "signature": sign(key, method, path, expires)}
    return f"{plane.origin}/toolbox/{sandbox['id']}{route}?{urlencode(query)}"


async def status(http: aiohttp.ClientSession, url: str, method: str = "GET", **options: Any) -> int:
    async with http.request(method, URL(url, encoded=True), **options) as response:
        await response.read()
        return response.status


async def test_a_link_opens_one_file(plane: Plane, stranger: aiohttp.ClientSession) -> None:
    sandbox, other = await plane.create(), await plane.create()
    key = await key_of(plane, sandbox)
    assert key == await key_of(plane, {"id": sandbox["name"]}) != await key_of(plane, other)
    await plane.execute(sandbox, "printf hello > a; printf other > b")
    good = link(plane, sandbox, key, expires=int(time.time()) + 60)
    async with stranger.get(good) as response:
        assert (response.status, await response.read()) == (200, b"hello")
    assert await status(stranger, good, "HEAD") == 200
    assert await status(stranger, link(plane, sandbox, key)) == 200
    for bad in (
        good.replace("path=a", "path=b"),
        good.replace("path=a", "path=b&path=a"),
        good.replace("path=a", "Path=b"),
        good.replace("signature=v1_", "signature=v1_x"),
        good.replace("/files/download", "/files/info"),
        good.replace("/files/download", "/files/upload-v2"),
        good.replace("/files/", "/files%2F"),
        good.replace("/files/", "/x/../files/"),
        good.replace(sandbox["id"], other["id"]),
        link(plane, sandbox, key, expires=int(time.time()) - 1),
        link(plane, sandbox, key, path="a").replace("expires=0", "expires=99999999999"),
        link(plane, sandbox, key, method="POST").replace("upload-v2", "download"),
    ):
        assert await status(stranger, bad) == 401, bad
    # What is first counts for us as for the daemon.
    async with stranger.get(good.replace("path=a", "path=a&path=b&Path=b&PATH=b")) as response:
        assert await response.read() == b"hello"
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert await status(stranger, good, method) == 401
    assert await status(plane.http, good.replace("signature=v1_", "signature=v1_x")) == 200


async def test_upload_and_rotation(plane: Plane, stranger: aiohttp.ClientSession) -> None:
    sandbox = await plane.create()
    key = await key_of(plane, sandbox)
    up = link(plane, sandbox, key, method="POST", path="new/file")
    form = aiohttp.FormData()
    form.add_field("file", b"content", filename="elsewhere")
    assert await status(stranger, up, "POST", data=form) == 200
    assert await plane.execute(sandbox, "cat new/file; ls") == "contentnew"
    assert await status(stranger, up) == 401
    rotated = await key_of(plane, sandbox, "/rotate", "POST")
    assert rotated != key
    assert await key_of(plane, sandbox) == rotated
    assert await status(stranger, up, "POST", data=b"x") == 401
    down = link(plane, sandbox, rotated, path="new/file")
    assert await status(stranger, down) == 200
    await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    assert await status(stranger, down) == 401
    await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert await status(stranger, down) == 200


async def test_pages_may_use_links_and_nothing_else(plane: Plane, stranger: aiohttp.ClientSession) -> None:
    sandbox = await plane.create()
    key = await key_of(plane, sandbox)
    await plane.execute(sandbox, "printf hello > a")
    good = link(plane, sandbox, key)
    page = {"Origin": "https://page.example"}
    async with stranger.get(good, headers=page) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
    asks = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with stranger.options(link(plane, sandbox, key, method="POST"), headers=asks) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
    for refused in (
        good,  # signed for GET, asked about POST
        good.replace("v1_", "v1_x"),
        f"{plane.origin}/toolbox/{sandbox['id']}/files/info?path={quote('a')}&expires=0&signature=x",
        f"{plane.api_url}/sandbox",
    ):
        async with stranger.options(refused, headers=asks) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
