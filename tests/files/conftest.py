"""A server of the file routes alone, on loopback, in a directory of the test."""

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from toolbox.files.identity import Identity
from toolbox.files.routes import routes
from toolbox.files.service import Files
from toolbox.files.threads import FileThreads
from toolbox.web.auth import Auth, Mode
from toolbox.web.metrics import Metrics
from toolbox.web.middleware import DAEMON_SOURCE, Pipeline
from toolbox.web.server import Server, build_application

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class FileServer:
    """The running server and a client of it."""

    port: int
    work: Path
    http: aiohttp.ClientSession
    files: Files

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Make a request and return the status and the decoded body."""
        if isinstance(options.get("data"), bytes):
            options["data"] = io.BytesIO(options["data"])  # the client warns of large bytes
        async with self.http.request(method, path, **options) as response:
            body = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, (await response.json() if is_json else body)

    async def refused(self, status: int, code: str, method: str, path: str, **options: Any) -> JsonObject:
        """Make a request that must be refused with the full envelope, and return that."""
        got, body = await self.call(method, path, **options)
        assert (got, body.get("code")) == (status, code), body
        assert body["statusCode"] == status
        assert body["source"] == "DAYTONA_DAEMON"
        assert body["path"] == path.partition("?")[0]
        assert body["method"] == method
        assert body["message"]
        assert body["timestamp"].endswith("Z")
        return dict(body)

    def leftovers(self) -> list[Path]:
        """Return the temporary files of ours that are still there."""
        return [each for each in self.work.rglob("*") if each.name.endswith(".toolbox-tmp")]


ServeFiles = Callable[..., AbstractAsyncContextManager[FileServer]]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return the work directory."""
    # The last path word is not ASCII, to have that everywhere.
    work = tmp_path / "wörk"
    work.mkdir()
    return work


@pytest.fixture
def serve_files(work: Path) -> ServeFiles:
    """Return a context manager that runs a server, as another user where one is given."""

    @asynccontextmanager
    async def serve(identity: Identity | None = None, *, durable: bool = False) -> AsyncIterator[FileServer]:
        async with FileThreads(identity) as threads:
            files = Files(work, threads, durable=durable)
            pipeline = Pipeline(Auth(Mode.NONE), Metrics(), source=DAEMON_SOURCE)
            server = Server(build_application(list(routes), {Files: files}, pipeline), pipeline)
            await server.start()
            port = await server.listen_tcp("127.0.0.1", 0)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
                yield FileServer(port, work, http, files)
            await server.stop()

    return serve


@pytest.fixture
async def server(serve_files: ServeFiles) -> AsyncIterator[FileServer]:
    """Run a server as the user of the tests."""
    async with serve_files() as running:
        yield running
