"""A headless Chromium, driven by its DevTools protocol."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")


def find() -> str | None:
    """Return the browser's program."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """A page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def command(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=60)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = await self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Return the value of an expression once it is true."""
        async with asyncio.timeout(60):
            while not (value := await self.evaluate(expression)):
                await asyncio.sleep(0.05)
            return value

    async def type(self, text: str) -> None:
        """Press a key for each character."""
        for character in text:
            await self.command("Input.dispatchKeyEvent", type="keyDown", text=character, key=character)
            await self.command("Input.dispatchKeyEvent", type="keyUp", key=character)


@asynccontextmanager
async def open_page(program: str, directory: Path, url: str) -> AsyncIterator[Page]:
    """Run the browser with an empty profile in `directory`, and open `url`."""
    process = await asyncio.create_subprocess_exec(
        program,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        # Nothing but the page asked for.
        *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--remote-debugging-port=0", f"--user-data-dir={directory}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        announced = directory / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while not (announced.exists() and announced.read_text().count("\n")):
                await asyncio.sleep(0.05)
        port = announced.read_text().split("\n")[0]
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as response:
                targets = await response.json(content_type=None)
            address = next(each["webSocketDebuggerUrl"] for each in targets if each["type"] == "page")
            async with http.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                await page.command("Page.navigate", url=url)
                await page.until("document.readyState === 'complete' && location.href !== 'about:blank'")
                yield page
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        async with asyncio.timeout(30):
            while _lives(process.pid):  # its helpers
                await asyncio.sleep(0.02)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
