"""A daemon that is told to end while it is at work, as a pod is before it is removed."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Toolboxd
from tests.interpreter.client import EXECUTE, Ran, read
from tests.test_command_line import alive

Start = Callable[..., Awaitable[Toolboxd]]
UNTIL_GO = "until [ -e go ]; do sleep 0.05; done"


async def begin(http: aiohttp.ClientSession, directory: Path, command: str) -> "asyncio.Task[dict[str, object]]":
    """Have a command run, and return when it does: the answer is still to come."""

    async def execute() -> dict[str, object]:
        async with http.post("/process/execute", json={"command": f"touch begun; {command}"}) as response:
            assert response.status == 200
            answer: dict[str, object] = await response.json()
            return answer

    task = asyncio.create_task(execute())
    async with asyncio.timeout(30):
        while not (directory / "begun").exists():
            await asyncio.sleep(0.02)
    return task


async def test_requests_under_way_are_carried_out(start_toolboxd: Start, tmp_path: Path) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0", "--drain-seconds", "600")
    marker = f"sleep 7{time.time_ns() % 10**8}"
    async with aiohttp.ClientSession(f"http://127.0.0.1:{await toolboxd.port()}") as http:
        for path, body in (("/process/session", {"sessionId": "s"}), ("/process/pty", {"id": "t"})):
            async with http.post(path, json=body) as response:
                assert response.status == 201
        endless = {"command": f"{marker}.1; echo never", "runAsync": True}
        async with http.post("/process/session/s/exec", json=endless) as response:
            command = (await response.json())["cmdId"]
        running = await begin(http, tmp_path, f"{UNTIL_GO}; echo carried out")
        terminal = await http.ws_connect("/process/pty/t/connect")
        # Of what only follows something there is no end to wait for.
        path, accept = f"/process/session/s/command/{command}/logs?follow=true", {"Accept": "text/event-stream"}
        events = await http.get(path, headers=accept)
        code = "import os, time\nopen('kernel', 'w')\nwhile not os.path.exists('go'): time.sleep(0.05)\nprint(6 * 7)"
        interpreter = await http.ws_connect(EXECUTE)
        await interpreter.send_str(json.dumps({"code": code}))
        computing = asyncio.create_task(read(interpreter, Ran()))
        async with asyncio.timeout(60):
            while not (tmp_path / "kernel").exists():
                await asyncio.sleep(0.05)

        toolboxd.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while (message := await terminal.receive()).type is not aiohttp.WSMsgType.CLOSE:
                pass
        assert (message.data, message.extra) == (1001, "shutting down")
        for path, status in (("/readyz", 503), ("/healthz", 200), ("/version", 503)):
            async with http.get(path) as response:
                assert response.status == status, path
                if status == 503:
                    assert (await response.json())["statusCode"] == 503
        assert not running.done()
        (tmp_path / "go").touch()
        assert (await running)["result"] == "carried out\n"
        ran = await computing
        assert (ran.text(), ran.controls, ran.code) == ("42\n", ["completed"], 1000)
        async with asyncio.timeout(30):
            assert await toolboxd.process.wait() == 0
        events.close()
        await terminal.close()
    assert await asyncio.to_thread(alive, marker) == []


async def test_the_websocket_of_a_program_is_not_waited_for(start_toolboxd: Start) -> None:
    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await reader.read()
        writer.close()

    toolboxd = await start_toolboxd("serve", "--port", "0", "--drain-seconds", "600")
    async with await asyncio.start_server(upgrade, "127.0.0.1") as program:
        reader, writer = await asyncio.open_connection("127.0.0.1", await toolboxd.port())
        path = f"/proxy/{program.sockets[0].getsockname()[1]}/"
        headers = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\n{headers}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        toolboxd.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await toolboxd.process.wait() == 0
        writer.close()


@pytest.mark.parametrize("hurry", [True, False], ids=["a second signal", "the limit"])
async def test_they_are_not_waited_for_without_end(start_toolboxd: Start, tmp_path: Path, hurry: bool) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0", "--drain-seconds", "600" if hurry else "1")
    marker = f"sleep 8{time.time_ns() % 10**8}"
    async with aiohttp.ClientSession(f"http://127.0.0.1:{await toolboxd.port()}") as http:
        running = await begin(http, tmp_path, f"trap '' TERM; {marker}.1; {marker}.2")
        toolboxd.process.send_signal(signal.SIGTERM)
        if hurry:
            await asyncio.wait([running], timeout=0.5)
            assert not running.done()
            toolboxd.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await toolboxd.process.wait() == 0
        with pytest.raises(aiohttp.ClientError):
            await running
    assert await asyncio.to_thread(alive, marker) == []


async def test_killed_meanwhile_it_leaves_nothing(start_toolboxd: Start, tmp_path: Path, reap_orphans: None) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0", "--drain-seconds", "600")
    marker = f"sleep 9{time.time_ns() % 10**8}"
    async with aiohttp.ClientSession(f"http://127.0.0.1:{await toolboxd.port()}") as http:
        running = await begin(http, tmp_path, f"{marker}.1; {marker}.2")
        toolboxd.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while True:
                async with http.get("/readyz") as response:
                    if response.status == 503:
                        break
        toolboxd.process.kill()
        with pytest.raises(aiohttp.ClientError):
            await running
    async with asyncio.timeout(30):
        while await asyncio.to_thread(alive, marker):
            await asyncio.sleep(0.05)
