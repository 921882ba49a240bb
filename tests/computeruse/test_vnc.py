"""The desktop in a browser, and by VNC."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.computeruse.desktops import get, post, until
from tests.conftest import Daemon, run_daemon
from tests.lsp import browser
from toolbox.config import ServeConfig

BACKGROUND = [0x2E, 0x34, 0x40]
PIXEL = """(() => {
  const canvas = document.querySelector('canvas');
  if (!canvas) return null;
  const middle = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1);
  return [...middle.data].slice(0, 3);
})()"""
SIZE = "(canvas => canvas && [canvas.width, canvas.height])(document.querySelector('canvas'))"


@pytest.fixture
def chromium() -> str:
    program = browser.find()
    assert program is not None
    return program


async def check_page(page: browser.Page, daemon: Daemon) -> None:
    await page.until("document.body.dataset.status === 'connected'")

    async def shown() -> bool:
        return bool(await page.evaluate(PIXEL) == BACKGROUND)

    await until(shown)
    await post(daemon, "resize", width=800, height=640)

    async def follows() -> bool:
        return bool(await page.evaluate(SIZE) == [800, 640])

    await until(follows)
    await page.until("document.body.dataset.status === 'connected'")


async def test_the_page_connects_by_itself(openbox: Daemon, chromium: str, tmp_path: Path) -> None:
    async with browser.open_page(chromium, tmp_path / "profile", f"{openbox.url}/computeruse/vnc") as page:
        await check_page(page, openbox)
        # It comes back when VNC does.
        await post(openbox, "process/x11vnc/restart")
        await page.until("document.body.dataset.status === 'connected'")


async def test_the_page_behind_a_token(make_config: Callable[..., ServeConfig], chromium: str, tmp_path: Path) -> None:
    async with run_daemon(make_config(token="t0ken"), Authorization="Bearer t0ken") as daemon:
        await post(daemon, "start")
        async with aiohttp.ClientSession(daemon.url) as stranger:
            for path in ("", "core/rfb.js", "websockify"):
                async with stranger.get(f"/computeruse/vnc/{path}") as response:
                    assert response.status == 401
        url = f"{daemon.url}/computeruse/vnc/?DAYTONA_SANDBOX_AUTH_KEY=t0ken"
        async with browser.open_page(chromium, tmp_path / "profile", url) as page:
            await check_page(page, daemon)


async def test_the_page_of_novnc_knows_the_password(openbox: Daemon, chromium: str, tmp_path: Path) -> None:
    port = (await get(openbox, "status"))["noVncPort"]
    async with browser.open_page(chromium, tmp_path / "profile", f"http://127.0.0.1:{port}/") as page:
        await page.until("document.body.dataset.status === 'connected'")
    url = f"http://127.0.0.1:{port}/vnc.html?autoconnect=true"
    async with browser.open_page(chromium, tmp_path / "other", url) as page:
        await page.until("document.documentElement.classList.contains('noVNC_connected')")


async def test_vnc_wants_a_password_and_is_on_loopback_only(openbox: Daemon) -> None:
    port = (await get(openbox, "status"))["vncPort"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        assert (await reader.readexactly(12)).startswith(b"RFB 003.")
        writer.write(b"RFB 003.008\n")
        count = (await reader.readexactly(1))[0]
        security_types = await reader.readexactly(count)
        assert 1 not in security_types, "anybody may connect"
    finally:
        writer.close()
        await writer.wait_closed()
    for name, family, any_address in (("tcp", socket.AF_INET, "00000000"), ("tcp6", socket.AF_INET6, "0" * 32)):
        lines = (await asyncio.to_thread(Path(f"/proc/net/{name}").read_text)).splitlines()[1:]
        listening = [line.split()[1] for line in lines if line.split()[3] == "0A"]
        assert f"{any_address}:{port:04X}" not in listening, family


async def test_the_bridge_carries_bytes(openbox: Daemon) -> None:
    async with openbox.http.ws_connect("/computeruse/vnc/websockify", protocols=("binary",)) as ws:
        assert ws.protocol == "binary"
        assert (await ws.receive_bytes(timeout=30)).startswith(b"RFB 003.")
        await ws.send_bytes(b"RFB 0")
        await ws.send_bytes(b"03.008\n")
        assert await ws.receive_bytes(timeout=30)
        await post(openbox, "process/x11vnc/restart")
        end = await ws.receive(timeout=30)
        assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_no_vnc(bare: Daemon, daemon: Daemon) -> None:
    async with daemon.http.get("/computeruse/vnc/") as response:
        assert response.status == 503
    for target in ("", "websockify"):
        headers: dict[str, Any] = {"Upgrade": "websocket", "Connection": "Upgrade"}
        async with bare.http.get(f"/computeruse/vnc/{target}", headers=headers) as response:
            assert response.status == 503
            assert "none" in (await response.json())["message"]


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "core", "nope", "a%00b"]
)
async def test_no_other_files(daemon: Daemon, path: str) -> None:
    async with daemon.http.get(URL(f"{daemon.url}/computeruse/vnc/{path}", encoded=True)) as response:
        assert response.status in {400, 404}
        assert "root:" not in await response.text()


async def test_files_of_novnc(daemon: Daemon) -> None:
    async with daemon.http.get("/computeruse/vnc/core/rfb.js") as response:
        assert response.status == 200
        assert "javascript" in response.headers["Content-Type"]
