"""The published TypeScript SDK in a web page of another origin, in a headless Chromium."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.controlplane.conftest import Plane, plane_on
from tests.lsp import browser

PAGE = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><script type=module src=/bundle.js></script>"
JOURNEY = {
    "headers": True,
    "execute": [3, "hé\n"],
    "codeRun": "42\n",
    "files": [True, "naïve", "FILE_NOT_FOUND", ["bytes", "日本 語.txt"]],
    "errors": [True, 404, "FILE_NOT_FOUND"],
    "session": ["1\n2\n3\ngot input\n", "err\n", 0],
    "pty": [7, True],
    "interpreter": ["42\n", ["42\n"], "ZeroDivisionError"],
    "left": 0,
}


@pytest.fixture
async def bundle(typescript_sdk: Path, tmp_path: Path) -> bytes:
    """Return the program of the page, as a bundler makes it for browsers."""
    bundler = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).parent / "node", "node_modules/esbuild/bin/esbuild", "browser.mjs", "--bundle"),
        *("--format=esm", "--inject:browser_globals.mjs", f"--outfile={tmp_path / 'bundle.js'}", "--log-level=error"),
        cwd=typescript_sdk,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await bundler.communicate()
    assert bundler.returncode == 0, errors.decode()
    return (tmp_path / "bundle.js").read_bytes()


@asynccontextmanager
async def site(answers: Mapping[str, tuple[str, bytes]]) -> AsyncIterator[str]:
    """Serve files by path, each with its media type; give the origin."""

    async def answer(request: web.Request) -> web.Response:
        kind, body = answers[request.path]
        return web.Response(body=body, content_type=kind)

    app = web.Application()
    app.router.add_get("/{name:.*}", answer)
    async with TestServer(app) as server:
        yield f"http://{server.host}:{server.port}"


@asynccontextmanager
async def page_of(bundle: bytes, directory: Path, *, allowed: bool) -> AsyncIterator[tuple[browser.Page, Plane]]:
    """Give a page that has the SDK, and a control plane that allows pages of its origin, or of another one only."""
    program = browser.find()
    assert program is not None
    async with (
        site({"/": ("text/html", PAGE.encode()), "/bundle.js": ("text/javascript", bundle)}) as origin,
        plane_on(directory / "state", allow_origins=origin if allowed else "http://other.example") as plane,
        browser.open_page(program, directory / "profile", origin) as page,
    ):
        yield page, plane


async def test_a_page_uses_sandboxes(bundle: bytes, tmp_path: Path) -> None:
    async with page_of(bundle, tmp_path, allowed=True) as (page, plane):
        call = f"journey({json.dumps(plane.api_url)}, {json.dumps(plane.api_key)})"
        assert await page.evaluate(call) == JOURNEY


async def test_a_page_of_another_origin_sees_nothing(bundle: bytes, tmp_path: Path) -> None:
    async with page_of(bundle, tmp_path, allowed=False) as (page, plane):
        sandbox = await plane.create()
        for path, method in ((f"/api/sandbox/{sandbox['id']}", "DELETE"), (f"/toolbox/{sandbox['id']}/files", "GET")):
            headers = {"Authorization": f"Bearer {plane.api_key}"}
            options = json.dumps({"method": method, "headers": headers})
            call = f"fetch('{plane.origin}{path}', {options}).then((r) => r.status, (error) => error.name)"
            assert await page.evaluate(call) == "TypeError"
        assert (await plane.call("GET", f"/sandbox/{sandbox['id']}"))["state"] == "started"
