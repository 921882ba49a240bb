"""Repositories and a git server of their own for each test, and a client of the daemon."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemon, run_daemon
from tests.git.http_server import GitServer, serve
from toolbox.config import ServeConfig

JsonObject = dict[str, Any]
AUTHOR = {"author": "An Author", "email": "an@author.example"}


def git(directory: Path | str, *args: str, check: bool = True, **options: Any) -> str:
    """Run git as a user would and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_EDITOR": ":"}
    settings = ("user.name=Test", "user.email=test@example", "init.defaultBranch=main", "protocol.file.allow=always")
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        ["git", *(word for setting in settings for word in ("-c", setting)), *args],
        cwd=directory,
        env=environment,
        capture_output=True,
        check=False,
        **options,
    )
    assert done.returncode == 0 or not check, done.stderr.decode()
    return done.stdout.decode("utf-8", "replace").rstrip("\n")


def commit(directory: Path, name: str = "file", content: str = "content\n", message: str = "message") -> str:
    """Write a file, commit it and return the commit's id."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    git(directory, "add", "--", name)
    git(directory, "commit", "--quiet", "-m", message)
    return git(directory, "rev-parse", "HEAD")


def make(directory: Path) -> Path:
    """Make a repository with one commit."""
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet")
    commit(directory)
    return directory


@dataclass(frozen=True)
class Client:
    """A client of the git routes."""

    daemon: Daemon
    work: Path

    async def call(self, method: str, path: str, /, **fields: Any) -> tuple[int, Any]:
        """Make a request, GETs with a query, and return status and decoded body."""
        options: JsonObject = {"params": fields} if method == "GET" else {"json": fields}
        async with self.daemon.http.request(method, f"/git/{path}", **options) as response:
            body = await response.json() if response.content_type == "application/json" else await response.read()
            return response.status, body

    async def ok(self, method: str, path: str, /, **fields: Any) -> Any:
        """Make a request that must succeed, and return the body."""
        status, body = await self.call(method, path, **fields)
        expected = {"init": 201, "remotes": 201, "branches": 201} if method == "POST" else {"branches": 204}
        assert status == (200 if method == "GET" else expected.get(path, 200)), body
        return body

    async def refused(self, status: int, code: str, method: str, path: str, /, **fields: Any) -> str:
        """Make a request that must be refused with the full envelope, and return its message."""
        got, body = await self.call(method, path, **fields)
        assert (got, body["code"] if isinstance(body, dict) else body) == (status, code), body
        assert (body["statusCode"], body["source"], body["method"]) == (status, "DAYTONA_DAEMON", method)
        assert body["path"] == f"/git/{path}"
        assert body["message"]
        return str(body["message"])

    async def status(self, path: str = "repo") -> JsonObject:
        """Return the status of a repository."""
        found: JsonObject = await self.ok("GET", "status", path=path)
        return found

    async def files(self, path: str = "repo") -> dict[str, tuple[str, str]]:
        """Return staging and worktree states by file name."""
        return {each["name"]: (each["staging"], each["worktree"]) for each in (await self.status(path))["fileStatus"]}


@pytest.fixture
async def client(
    serve_config: Callable[..., ServeConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Client]:
    """Run a daemon whose user has no configuration of git yet."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    config = serve_config()
    async with run_daemon(config) as daemon:
        yield Client(daemon, config.work_dir)


@pytest.fixture
def repo(client: Client) -> Path:
    """Make the repository `repo` in the work dir."""
    return make(client.work / "repo")


@pytest.fixture
def remotes(tmp_path: Path) -> Path:
    """Make the directory of bare repositories: one open, one private, one empty."""
    root = tmp_path / "remotes"
    seed = make(root / "seed")
    git(seed, "checkout", "--quiet", "-b", "feature")
    commit(seed, "feature.txt", "feature\n", "on the feature")
    git(seed, "tag", "v1")
    git(seed, "checkout", "--quiet", "main")
    commit(seed, "file", "more\n", "second")
    for name in ("open.git", "private/it.git"):
        git(root, "clone", "--quiet", "--bare", "seed", name)
    git(root, "init", "--quiet", "--bare", "empty.git")
    return root


@pytest.fixture
def server(remotes: Path, nothing_left: None) -> Iterator[GitServer]:
    """Serve them over HTTP."""
    with serve(remotes) as running:
        yield running
