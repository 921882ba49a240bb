"""A daemon with a bare desktop, what to ask it about recordings, and ffprobe to look at them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import run_daemon
from toolbox.children import tree
from toolbox.config import ServeConfig

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Recorder:
    """The recordings of a daemon."""

    http: aiohttp.ClientSession
    directory: Path

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Make a request below `/computeruse` and return the status and the body."""
        async with self.http.request(method, f"/computeruse{path}", **options) as response:
            body = await response.read()
            return response.status, json.loads(body) if response.content_type == "application/json" else body

    async def start(self, **fields: Any) -> JsonObject:
        """Start a recording."""
        status, body = await self.call("POST", "/recordings/start", json=fields)
        assert status == 201, body
        return dict(body)

    async def stop(self, recording: JsonObject) -> JsonObject:
        """Stop a recording."""
        status, body = await self.call("POST", "/recordings/stop", json={"id": recording["id"]})
        assert status == 200, body
        return dict(body)

    async def get(self, recording: JsonObject) -> JsonObject:
        """Return what is known of a recording."""
        status, body = await self.call("GET", f"/recordings/{recording['id']}")
        assert status == 200, body
        return dict(body)

    async def list(self) -> list[JsonObject]:
        """Return all recordings."""
        status, body = await self.call("GET", "/recordings")
        assert status == 200, body
        return list(body["recordings"])

    async def until(self, recording: JsonObject, settled: Callable[[JsonObject], bool]) -> JsonObject:
        """Wait until a recording is as it should be."""
        async with asyncio.timeout(30):
            while not settled(found := await self.get(recording)):
                await asyncio.sleep(0.05)
        return found

    async def until_filmed(self, recording: JsonObject, fragments: int = 1) -> None:
        """Wait until the file holds some seconds of film."""
        path = Path(recording["filePath"])
        async with asyncio.timeout(30):
            while path.read_bytes().count(b"moof") <= fragments:
                await asyncio.sleep(0.05)

    async def refused(self, status: int, code: str, method: str, path: str, **options: Any) -> JsonObject:
        """Make a request that must be refused with the full envelope, and return that."""
        got, body = await self.call(method, path, **options)
        assert (got, body.get("code")) == (status, code), body
        assert (body["statusCode"], body["source"], body["method"]) == (status, "DAYTONA_DAEMON", method)
        return dict(body)


RunRecorder = Callable[..., AbstractAsyncContextManager[Recorder]]


@pytest.fixture
def run_recorder(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> RunRecorder:
    """Return a context manager that runs a daemon with a bare desktop."""

    @asynccontextmanager
    async def run(*, started: bool = True, **options: str) -> AsyncIterator[Recorder]:
        config = serve_config(**{"desktop": "none", "resolution": "640x480", **options})
        async with run_daemon(config) as daemon:
            recorder = Recorder(daemon.http, config.recordings_dir)
            if started:
                assert (await recorder.call("POST", "/start"))[0] == 200
            yield recorder

    return run


@pytest.fixture
async def recorder(run_recorder: RunRecorder) -> AsyncIterator[Recorder]:
    """Run a daemon with a bare desktop of 640x480 pixels."""
    async with run_recorder() as running:
        yield running


async def probe(path: Path | str) -> JsonObject:
    """Return what ffprobe finds in a video, every frame decoded; there must be nothing wrong with it."""
    process = await asyncio.create_subprocess_exec(
        *("ffprobe", "-v", "error", "-count_frames", "-of", "json", "-show_streams", "-show_format", path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b""), errors
    found = json.loads(out)
    (stream,) = found["streams"]
    return {
        "size": (stream["width"], stream["height"]),
        "frames": int(stream["nb_read_frames"]),
        "seconds": float(found["format"]["duration"]),
    }


def processes(name: str, home: Path) -> list[int]:
    """Return the processes of a program that have something of this test in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "comm").read_text().strip() == name and os.fsencode(home) in (
                    entry / "environ"
                ).read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def ffmpegs() -> list[int]:
    """Return the ffmpeg processes that this test process started."""
    found = []
    for pid in tree.direct_children():
        stat = tree.read_stat(pid)
        if stat is not None and Path(f"/proc/{pid}/comm").read_text().strip() == "ffmpeg":
            found.append(pid)
    return found
