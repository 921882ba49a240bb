"""Peers that vanish without a word: no packet comes from them any more, not even a reset."""

import asyncio
import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import run_daemon
from toolbox.config import ServeConfig
from toolbox.web import server

_CLONE_NEWNET = 0x40000000


class OtherMachine:
    """A network of its own, joined to ours by a cable."""

    def __init__(self, name: str, ours: str, theirs: str) -> None:
        self.name, self.ours, self.theirs = name, ours, theirs

    def connection(self, _: Any) -> socket.socket:
        """Return a socket of that machine (a socket belongs to the network it was made in)."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        away = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            assert libc.setns(away, _CLONE_NEWNET) == 0
            made = socket.socket()
            assert libc.setns(home, _CLONE_NEWNET) == 0
        finally:
            os.close(home)
            os.close(away)
        made.setblocking(False)
        return made

    def vanish(self) -> None:
        """Pull the cable."""
        _ip("-n", self.name, "link", "set", "cable", "down")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def other_machine() -> Iterator[OtherMachine]:
    """Return another machine in our network."""
    number = os.getpid() % 16_000
    name, net = f"gone{number}", f"10.{64 + number // 256}.{number % 256}"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not possible here: {error}")
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "cable", "netns", name)
        _ip("addr", "add", f"{net}.1/24", "dev", name)
        _ip("link", "set", name, "up")
        _ip("-n", name, "addr", "add", f"{net}.2/24", "dev", "cable")
        _ip("-n", name, "link", "set", "cable", "up")
        yield OtherMachine(name, f"{net}.1", f"{net}.2")
    finally:
        _ip("netns", "del", name)


async def test_a_peer_that_vanishes_is_noticed(
    serve_config: Callable[..., ServeConfig], other_machine: OtherMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2))
    assert [option for option, _ in server.KEEP_ALIVE] == [option for option, _ in quick]
    monkeypatch.setattr(server, "KEEP_ALIVE", quick)
    config = serve_config(host="0.0.0.0", auth="none")
    async with run_daemon(config) as daemon:
        url = daemon.url.replace("0.0.0.0", other_machine.ours)
        connector = aiohttp.TCPConnector(socket_factory=other_machine.connection)
        async with aiohttp.ClientSession(url, connector=connector) as far, aiohttp.ClientSession(url) as near:
            async with near.post("/process/session", json={"sessionId": "kept"}) as response:
                assert response.ok
            silent = {"command": "x=kept; sleep 1002", "runAsync": True}
            async with near.post("/process/session/kept/exec", json=silent) as response:
                command = (await response.json())["cmdId"]
            follower = await far.ws_connect(f"/process/session/kept/command/{command}/logs?follow=true")
            running = asyncio.create_task(
                far.post("/process/execute", json={"command": "echo $$ > pid; exec sleep 1000"})
            )
            pid = config.work_dir / "pid"
            while not pid.exists() or not pid.read_text():
                await asyncio.sleep(0.02)
            assert await _websockets(near) == 1
            # What is on the way is repeated by the kernel for a quarter of an hour; silence is what it asks about.
            while _unacknowledged(other_machine.theirs):
                await asyncio.sleep(0.02)
            other_machine.vanish()
            # The follower is gone, and what was asked for by nobody any more is ended; the session stays.
            while await _websockets(near) or Path(f"/proc/{pid.read_text().strip()}").exists():
                await asyncio.sleep(0.05)
            async with near.get(f"/process/session/kept/command/{command}") as response:
                assert (await response.json())["status"] == "running"
            running.cancel()
            await asyncio.wait([running])
            follower._response.connection.transport.abort()  # type: ignore[union-attr]


def _unacknowledged(address: str) -> bool:
    """Tell whether something we have sent to an address has not arrived yet, as far as we know."""
    theirs = socket.inet_aton(address)[::-1].hex().upper()
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(words[2].startswith(theirs) and int(words[4].partition(":")[0], 16) for words in lines)


async def _websockets(http: aiohttp.ClientSession) -> int:
    async with http.get("/metrics") as response:
        for line in (await response.text()).splitlines():
            if line.startswith("toolbox_websockets "):
                return int(float(line.split()[1]))
    raise AssertionError("no such metric")


async def test_a_peer_that_stops_reading_and_writing_costs_only_itself(
    serve_config: Callable[..., ServeConfig],
) -> None:
    """Its machine still answers, so it may come back: it is kept, and gets everything."""
    async with run_daemon(serve_config()) as daemon:
        size = 64 * 1024 * 1024
        await daemon.execute(f"truncate -s {size} hole")
        async with daemon.http.get("/files/download", params={"path": "hole"}) as frozen:
            for _ in range(20):
                assert (await daemon.execute("echo hello"))["result"] == "hello\n"
            received = 0
            async for chunk in frozen.content.iter_any():
                received += len(chunk)
        assert received == size
