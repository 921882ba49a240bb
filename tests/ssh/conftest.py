"""A daemon with SSH, and the real OpenSSH clients."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from toolbox.app import running
from toolbox.config import ServeConfig

PASSWORD = "the-token"


class Client:
    """OpenSSH with a key, an empty configuration and known hosts of its own."""

    def __init__(self, directory: Path, port: int, key: Path | None, user: str = "anybody") -> None:
        self.directory, self.port, self.user = directory, port, user
        self.known_hosts = directory / "known_hosts"
        self.options = ["-F", "none", "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "LogLevel=ERROR"]
        self.options += ["-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        if key is not None:
            self.options += ["-i", str(key)]

    def argv(self, *words: str) -> list[str]:
        return ["ssh", *self.options, "-p", str(self.port), f"{self.user}@127.0.0.1", *words]

    async def start(self, *argv: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.directory,
            env={**os.environ, **(env or {})},
        )

    async def run(
        self, *words: str, data: bytes = b"", env: dict[str, str] | None = None, before: tuple[str, ...] = ()
    ) -> tuple[int, bytes, bytes]:
        """Run `ssh` and return exit code, output and errors."""
        argv = self.argv(*words)
        argv[1:1] = before
        return await self.finish(await self.start(*argv, env=env), data)

    async def finish(self, process: asyncio.subprocess.Process, data: bytes = b"") -> tuple[int, bytes, bytes]:
        output, errors = await process.communicate(data)
        assert process.returncode is not None
        return process.returncode, output, errors

    async def copy(self, *words: str, program: str = "scp", data: bytes = b"") -> tuple[int, bytes, bytes]:
        """Run `scp` or `sftp`; `HOST` stands for the server."""
        named = [word.replace("HOST", f"{self.user}@127.0.0.1") for word in words]
        return await self.finish(await self.start(program, *self.options, "-P", str(self.port), *named), data)


async def make_key(path: Path) -> None:
    process = await asyncio.create_subprocess_exec("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
    assert await process.wait() == 0


@pytest.fixture(autouse=True)
def openssh() -> None:
    if shutil.which("ssh") is None:
        pytest.skip("not possible here: no ssh")


@pytest.fixture
async def key(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.mkdir()
    await make_key(path / "id")
    return path / "id"


Serve = Callable[..., "AsyncIterator[Client]"]


@pytest.fixture
def serving(serve_config: Callable[..., ServeConfig], key: Path, tmp_path: Path) -> object:
    """Return a context manager that runs a daemon and gives a client of it."""

    @asynccontextmanager
    async def run(**options: str) -> AsyncIterator[Client]:
        place = tmp_path / "client"
        place.mkdir(exist_ok=True)
        config = serve_config(ssh_port="0", ssh_authorized_keys=f"{key}.pub", **options)
        async with running(config) as daemon:
            yield Client(place, daemon.ssh_port, key)

    return run


@pytest.fixture
async def ssh(serving: Callable[..., AbstractAsyncContextManager[Client]]) -> AsyncIterator[Client]:
    async with serving() as client:
        yield client
