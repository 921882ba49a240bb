"""A client of terminals."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.conftest import Daemon
from toolbox.children import environment

EXIT_CONTROL = "X-Daytona-Pty-Exit-Control"
CREATE = "create-connect"


class Pty:
    """A connection to a terminal, and what came over it."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.output = bytearray()
        self.controls: list[dict[str, Any]] = []
        self.close: tuple[int, str] | None = None

    async def receive(self) -> bool:
        """Take one message; False when it was the close."""
        try:
            message = await self.ws.receive(timeout=60)
        except TimeoutError:
            raise AssertionError(f"nothing comes any more after {bytes(self.output[-1000:])!r}") from None
        if message.type is WSMsgType.BINARY:
            assert len(message.data) <= 32 * 1024
            self.output += message.data
        elif message.type is WSMsgType.TEXT:
            control = json.loads(message.data)
            assert control.pop("type") == "control"
            self.controls.append(control)
        else:
            assert message.type is WSMsgType.CLOSE, message
            self.close = (message.data, message.extra or "")
        return self.close is None

    async def connected(self) -> int:
        """Wait for the first message and return the offset it tells."""
        await self.receive()
        assert not self.output
        assert self.controls[0]["status"] == "connected"
        return int(self.controls[0]["offset"])

    async def until(self, text: str | bytes, start: int = 0) -> None:
        """Wait until `text` came."""
        wanted = text.encode() if isinstance(text, str) else text
        while self.output.find(wanted, start) < 0:
            start = max(start, len(self.output) - len(wanted))
            assert await self.receive(), (self.close, bytes(self.output[-1000:]))

    async def until_size(self, size: int) -> None:
        """Wait until that many bytes came."""
        while len(self.output) < size:
            assert await self.receive(), (self.close, bytes(self.output[-1000:]))

    async def type(self, text: str | bytes) -> None:
        """Send input."""
        await self.ws.send_bytes(text.encode() if isinstance(text, str) else text)

    async def run(self, command: str, until: str) -> None:
        """Type a command and wait for a text that it prints (and does not contain)."""
        assert until not in command
        start = len(self.output)
        await self.type(command + "\n")
        await self.until(until, start)

    async def end(self) -> tuple[int, Any]:
        """Receive to the end; return the close code and the reason, decoded if it is JSON."""
        while await self.receive():
            pass
        assert self.close is not None
        code, reason = self.close
        return code, json.loads(reason) if reason.startswith("{") else reason


Connect = Callable[..., AbstractAsyncContextManager[Pty]]


@pytest.fixture(autouse=True)
def plain_bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever shells there are, run bash, without the start-up files of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(environment, "_PREFERRED_SHELLS", ("/usr/bin/bash", "/bin/bash"))


@pytest.fixture
def connect(daemon: Daemon) -> Connect:
    """Return a function that connects to a terminal; of a new id, with `CREATE`."""

    @asynccontextmanager
    async def connect(name: str, *protocols: str, **query: object) -> AsyncIterator[Pty]:
        path = CREATE if name == CREATE else f"{name}/connect"
        url = f"/process/pty/{path}?{urlencode(query)}"
        async with daemon.http.ws_connect(url, protocols=protocols, max_msg_size=0, compress=0) as ws:
            yield Pty(ws)

    return connect


@pytest.fixture
async def pty(connect: Connect) -> AsyncIterator[Pty]:
    """A connected terminal named `one`, in raw mode and without a prompt: what is printed is what comes."""
    async with connect(CREATE, EXIT_CONTROL, id="one") as pty:
        await pty.connected()
        await pty.run(
            "PS1= PROMPT_COMMAND=; stty raw -echo; bind 'set enable-bracketed-paste off'; echo rea''dy", "ready\n"
        )
        pty.output.clear()
        yield pty


async def call(daemon: Daemon, method: str, path: str, expect: int = 200, body: object = None) -> Any:
    """Make a request; return the decoded answer."""
    async with daemon.http.request(method, path, json=body) as response:
        assert response.status == expect, await response.text()
        return await response.json()
