"""A control plane in this process, and a client of its API."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane.app import running
from tests.security import audit
from toolbox.config import UpConfig


class Plane:
    """A running control plane as a client sees it."""

    ssh_port = 0

    def __init__(self, port: int, api_key: str, state_dir: Path, http: aiohttp.ClientSession) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.api_url = self.origin + "/api"
        self.api_key, self.state_dir, self.http = api_key, state_dir, http

    async def call(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        """Call the API and return the JSON answer, None for an empty one; the status must be `expect`."""
        async with self.http.request(method, self.api_url + path, **options) as response:
            body = await response.read()
            assert response.status == expect, body
            return await response.json() if body else None

    async def create(self, **wanted: Any) -> Any:
        """Create a sandbox and return it."""
        return await self.call("POST", "/sandbox", json=wanted)

    async def toolbox(self, method: str, sandbox: Any, path: str, expect: int = 200, **options: Any) -> Any:
        """Call the daemon of a sandbox through the proxy."""
        url = f"{self.origin}/toolbox/{sandbox['id']}{path}"
        async with self.http.request(method, url, **options) as response:
            assert response.status == expect, await response.text()
            return await response.json()

    async def execute(self, sandbox: Any, command: str) -> str:
        """Run a command in a sandbox and return its output; the exit code must be 0."""
        answer = await self.toolbox("POST", sandbox, "/process/execute", json={"command": command})
        assert answer["exitCode"] == 0, answer
        return str(answer["result"]).strip()

    def home(self, sandbox: Any) -> Path:
        """Return where the sandbox's files are."""
        return self.state_dir / "controlplane/sandboxes" / str(sandbox["id"]) / "home"


@asynccontextmanager
async def plane_on(
    state_dir: Path, environ: Mapping[str, str] | None = None, /, **options: str
) -> AsyncIterator[Plane]:
    """Run a control plane on a state directory, with the variables `environ` and options."""
    given = {"HOME": str(state_dir), **(environ or {})}
    config = UpConfig.load({"port": "0", "state_dir": str(state_dir), **options}, given)
    async with (
        running(config) as server,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.api_key}"}) as http,
    ):
        audit.note(server.api_key)
        plane = Plane(server.port, server.api_key, state_dir, http)
        plane.ssh_port = server.ssh_port
        yield plane


async def run_typescript(sdk: Path, plane: Plane, directory: Path, program: str, **env: str) -> None:
    """Run a program that uses the TypeScript SDK and prints `done` at its end."""
    script = directory / "script.cjs"
    script.write_text(program)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "node",
        script,
        cwd=directory,
        env={
            **os.environ,
            "NODE_PATH": str(sdk / "node_modules"),
            "DAYTONA_API_URL": plane.api_url,
            "DAYTONA_API_KEY": plane.api_key,
            **env,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert (process.returncode, output) == (0, b"done\n"), errors.decode()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    """Run a control plane that is gone with the test."""
    async with plane_on(tmp_path / "state") as found:
        yield found


@pytest.fixture
def processes_of() -> Callable[[Path], list[int]]:
    """Return a function that lists the processes whose environment names a directory."""

    def find(directory: Path) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if os.fsencode(directory) in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    return find
