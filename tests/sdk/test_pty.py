"""The terminals of the published Python SDKs, sync and async, against a real server."""

import uuid
from typing import Any

import pytest
from daytona import (
    AsyncDaytona,  # noqa: F401 -- imported first: the package loads its parts lazily
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaConnectionError,
    DaytonaError,
    DaytonaNotFoundError,
)
from daytona.common.pty import PtySize

from tests.sdk.clients import Either, Sdk, scenario


class Terminal:
    """A handle of either SDK: the async one calls back, the sync one is iterated over."""

    def __init__(self, sdk: Sdk, process: Any, name: str) -> None:
        self._sdk = sdk
        self._process = process
        self.name = name
        self.output = b""
        self.handle: Any = None

    def _on_data(self, data: bytes) -> None:
        self.output += data

    async def create(self, **options: Any) -> "Terminal":
        """Create and connect."""
        more = {"on_data": self._on_data} if self._sdk.is_async else {}
        self.handle = Either(await self._process.create_pty_session(id=self.name, **more, **options))
        if self._sdk.is_async:
            await self.handle.wait_for_connection()
        return self

    async def connect(self) -> "Terminal":
        """Connect to what exists."""
        more = {"on_data": self._on_data} if self._sdk.is_async else {}
        self.handle = Either(await self._process.connect_pty_session(self.name, **more))
        if self._sdk.is_async:
            await self.handle.wait_for_connection()
        return self

    async def type(self, text: str | bytes) -> None:
        """Type."""
        await self.handle.send_input(text)

    async def end(self) -> tuple[int | None, str | None]:
        """Wait for the exit and return its code and error."""
        more = {} if self._sdk.is_async else {"on_data": self._on_data}
        result = await self.handle.wait(**more)
        await self.handle.disconnect()
        return result.exit_code, result.error


@pytest.fixture
def terminal(sdk: Sdk, box: Any) -> Terminal:
    """Return a terminal that does not exist yet."""
    return Terminal(sdk, box.process, f"terminal-{uuid.uuid4().hex[:8]}")


@scenario
async def test_a_terminal_from_start_to_end(*, sdk: Sdk, box: Any, terminal: Terminal) -> None:
    await terminal.create(cwd="/tmp", envs={"GREETING": "hällo"}, pty_size=PtySize(rows=33, cols=111))
    info = await box.process.get_pty_session_info(terminal.name)
    assert (info.id, info.cwd, info.cols, info.rows, info.active) == (terminal.name, "/tmp", 111, 33, True)
    assert terminal.name in [each.id for each in await box.process.list_pty_sessions()]
    info = await terminal.handle.resize(PtySize(rows=20, cols=70))
    assert (info.cols, info.rows) == (70, 20)
    await terminal.type('echo "<$GREETING $PWD $(stty size)>"\n')
    await terminal.type(b"seq 1 20000; exit 7\n")
    assert await terminal.end() == (7, "non-zero exit")
    assert "<hällo /tmp 20 70>".encode() in terminal.output
    assert "".join(f"{number}\r\n" for number in range(1, 20001)).encode() in terminal.output
    with pytest.raises(DaytonaNotFoundError):
        await box.process.get_pty_session_info(terminal.name)


@scenario
async def test_the_first_output_reaches_who_created_it(*, sdk: Sdk, box: Any, terminal: Terminal) -> None:
    script = "mkdir -p early && cd early && echo 'echo first; exit 0' | tee .bash_profile .zprofile > .profile && pwd"
    home = (await box.process.exec(script)).result.strip()
    await terminal.create(envs={"HOME": home})
    assert await terminal.end() == (0, None)
    assert b"first\r\n" in terminal.output


@scenario
async def test_leaving_and_coming_back(*, sdk: Sdk, box: Any, terminal: Terminal) -> None:
    await terminal.create()
    await terminal.type("echo bef''ore\n")
    await terminal.handle.disconnect()
    again = await Terminal(sdk, box.process, terminal.name).connect()
    await again.type("echo aft''er; exit\n")
    assert await again.end() == (0, None)
    assert again.output.index(b"before\r\n") < again.output.index(b"after\r\n")


@scenario
async def test_killing(*, sdk: Sdk, box: Any, terminal: Terminal) -> None:
    await terminal.create()
    await terminal.handle.kill()
    assert await terminal.end() == (137, "SIGKILL")
    with pytest.raises(DaytonaNotFoundError):
        await box.process.kill_pty_session(terminal.name)


@scenario
async def test_what_goes_wrong(*, sdk: Sdk, box: Any, terminal: Terminal) -> None:
    await terminal.create()
    with pytest.raises(DaytonaConflictError):
        await Terminal(sdk, box.process, terminal.name).create()
    with pytest.raises(DaytonaBadRequestError):
        await Terminal(sdk, box.process, "a/b").create()
    with pytest.raises(DaytonaBadRequestError):
        await Terminal(sdk, box.process, "size").create(pty_size=PtySize(rows=1, cols=100_000))
    with pytest.raises(DaytonaBadRequestError):
        await Terminal(sdk, box.process, "place").create(cwd="/no/such/place")
    with pytest.raises(DaytonaError):
        await box.process.resize_pty_session(terminal.name, PtySize(rows=0, cols=100_000))
    with pytest.raises(DaytonaConnectionError, match="PTY session nope not found"):
        await Terminal(sdk, box.process, "nope").connect()
    await terminal.type("exit\n")
    assert await terminal.end() == (0, None)
