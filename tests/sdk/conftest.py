"""One real `toolboxd up` for each test process, and the published SDKs as its clients."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from daytona import AsyncDaytona, CreateSandboxFromSnapshotParams, Daytona, DaytonaConfig

from tests.git.conftest import commit, git, make
from tests.git.http_server import GitServer, serve
from tests.sdk.clients import Either, Sdk, without_loop


@pytest.fixture(autouse=True)
def nothing_blocks() -> None:
    """Not here: none of our code runs in this process, and the SDKs may block as they like."""


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Not here: the clients live as long as the session and keep connections open. `server` looks for leftovers."""


@dataclass(frozen=True)
class Server:
    """A control plane in a process of its own."""

    api_url: str
    api_key: str
    state_dir: Path

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a client process."""
        return clean_environ(DAYTONA_API_URL=self.api_url, DAYTONA_API_KEY=self.api_key)

    @property
    def config(self) -> DaytonaConfig:
        """The configuration of a client in this process."""
        return DaytonaConfig(api_url=self.api_url, api_key=self.api_key, target="local")


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def clean_environ(**more: str) -> dict[str, str]:
    """Return the environment without what would change the behaviour of server or clients."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))}
    return kept | more


@contextmanager
def serving(home: Path, *options: str) -> Iterator[Server]:
    """Run `toolboxd up`; it must end well and leave no process."""
    state_dir, log = home / "state", home / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "toolbox", "up", "--port", "0", "--ssh-port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=home,
            # The `python3` and `node` of sandboxes are those of the tests, with the libraries that charts need.
            env=clean_environ(HOME=str(home), TOOLBOX_STATE_DIR=str(state_dir), PATH=_path()),
            text=True,
        )
    try:
        assert process.stdout is not None
        exports = [process.stdout.readline().strip().removeprefix("export ").partition("=") for _ in range(2)]
        assert [name for name, *_ in exports] == ["DAYTONA_API_URL", "DAYTONA_API_KEY"], log.read_text()
        yield Server(exports[0][2], exports[1][2], state_dir)
    finally:
        process.terminate()
        code = process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
    assert code == 0, log.read_text()
    assert processes_naming(home) == [], "processes left behind"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run `toolboxd up` for the session; it must leave nothing."""
    with serving(tmp_path_factory.mktemp("toolboxd")) as running:
        yield running
    assert list((running.state_dir / "controlplane/sandboxes").iterdir()) == [], "sandboxes left behind"


def processes_naming(directory: Path) -> list[str]:
    """Return the command lines of the processes whose environment names a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if os.fsencode(directory) in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


@pytest.fixture(scope="session", params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, server: Server) -> Iterator[Sdk]:
    """Return a client of either kind."""
    with client(request.param, server) as made:
        yield made


@contextmanager
def client(kind: str, server: Server) -> Iterator[Sdk]:
    """Make a client: `sync` or `async`."""
    if kind == "sync":
        # It has no method to close it: its pool goes with the last reference.
        yield Sdk("sync", Either(Daytona(server.config)), without_loop)
        return
    with asyncio.Runner() as runner:
        opened = runner.run(_open(server.config))
        yield Sdk("async", Either(opened), runner.run)
        runner.run(opened.close())  # type: ignore[no-untyped-call]


async def _open(config: DaytonaConfig) -> AsyncDaytona:
    return AsyncDaytona(config)


@pytest.fixture(scope="session")
def box(sdk: Sdk) -> Iterator[Any]:
    """Return a sandbox that tests share which keep to a directory of their own."""
    created = sdk.run(sdk.daytona.create(CreateSandboxFromSnapshotParams(name=f"shared-{sdk.name}")))
    yield created
    sdk.run(created.delete(wait=True))


@pytest.fixture
def fs(box: Any) -> Any:
    """Return the file system of the shared sandbox."""
    return box.fs


@pytest.fixture
def folder(sdk: Sdk, box: Any, tmp_path: Path) -> Iterator[str]:
    """Return a new directory in the shared sandbox, relative to its work dir."""
    path = f"folder-{tmp_path.name}"
    sdk.run(box.fs.create_folder(path, "755"))
    yield path
    sdk.run(box.fs.delete_file(path, recursive=True))


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """Serve `open.git` with the branches main and feature, to be copied, never to be pushed to."""
    with remotes(tmp_path_factory.mktemp("remotes")) as running:
        yield running


@contextmanager
def remotes(root: Path, *, host: str = "127.0.0.1") -> Iterator[GitServer]:
    """Serve the repositories of `git_server`, made below `root`."""
    seed = make(root / "seed")
    git(seed, "checkout", "--quiet", "-b", "feature")
    commit(seed, "feature.txt", "feature\n")
    git(seed, "checkout", "--quiet", "main")
    git(root, "clone", "--quiet", "--bare", "seed", "open.git")
    git(root, "init", "--quiet", "--bare", "empty.git")
    with serve(root, host=host) as running:
        yield running


@pytest.fixture
def git_remote(git_server: GitServer, tmp_path: Path) -> str:
    """Return the name of a copy of `open.git` that needs a login."""
    name = f"private/{tmp_path.name}-{uuid.uuid4().hex[:8]}.git"
    git(git_server.root, "clone", "--quiet", "--bare", "open.git", name)
    return name
