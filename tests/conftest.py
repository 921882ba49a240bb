"""Fixtures of all tests: a real daemon on a free loopback port, and proof that nothing blocks or is left behind."""

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.security import audit
from toolbox.app import running
from toolbox.children import tree
from toolbox.config import ServeConfig

ALLOWED_SKIP = "not possible here: "
"""How the reason of a skip begins that CI accepts."""

# A loaded machine is slow, and that is no failure.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

MAY_BLOCK = {
    # vfork and exec of one program: a millisecond, and a thread would cost more (see Children.spawn).
    "children/process.py": {"spawn"},
    # A memfd is memory.
    "process/execute.py": {"_spawn"},
    "git/native.py": {"_memory_file"},
    # The text that starts each program: once.
    "process/code_run.py": {"_bootstrap"},
    # procfs and cgroupfs are answered from memory.
    "children/tree.py": {"read_stat", "direct_children"},
    "children/memory.py": {"_read", "_counter_file"},
    "toolbox/incarnation.py": {"_boot_id"},
    # Before the first request, or once.
    "children/environment.py": {"shell"},
    "toolbox/config.py": {"load"},
    "toolbox/app.py": {"running"},
    "web/idempotency.py": {"close"},  # of a file written in threads
    # Imports; and a loop of its own, in a thread.
    "cluster/api.py": {"open", "_configure"},
    "toolbox/web/openapi.py": {"_page"},
}


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[BlockBuster]:
    """Fail the test in which our code blocks the event loop."""
    with blockbuster_ctx(["toolbox", "controlplane"]) as buster:
        for function in buster.functions.values():
            for file, names in MAY_BLOCK.items():
                function.can_block_in(file, names)
        yield buster


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail the test that leaves a process or a descriptor behind."""
    before = set(tree.direct_children())
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    left = [stat for pid in tree.direct_children() if pid not in before and (stat := tree.read_stat(pid)) is not None]
    assert not left, "processes left behind"
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1, "descriptors left behind"


@pytest.fixture(autouse=True)
def no_secret_is_logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test in which a server logs a secret that it was given."""
    with audit.listening(monkeypatch):
        yield


@pytest.fixture
def reap_orphans(nothing_left: None) -> Iterator[None]:
    """Wait for what a killed daemon leaves: an earlier test may have made this process its reaper."""
    before = set(tree.direct_children())
    yield
    deadline = time.monotonic() + 20
    while (left := set(tree.direct_children()) - before) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)


@dataclass(frozen=True)
class Daemon:
    """A daemon in this process, and a client of it."""

    url: str
    work_dir: Path
    state_dir: Path
    http: aiohttp.ClientSession

    async def execute(self, command: str, **fields: object) -> dict[str, object]:
        """Run a command and return the answer; the status must be 200."""
        async with self.http.post("/process/execute", json={"command": command, **fields}) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, object] = await response.json()
            return answer


@pytest.fixture(scope="session")
def typescript_sdk() -> Path:
    """Return the directory of the locked TypeScript SDK, installed."""
    return npm_install(Path(__file__).parent / "sdk/typescript")


@pytest.fixture(scope="session")
def node_programs() -> Path:
    """Return the directory of the locked TypeScript language server and browser editor, installed."""
    return npm_install(Path(__file__).parent / "lsp/node")


@pytest.fixture(scope="session")
def path_with_node(node_programs: Path) -> str:
    """Return a PATH on which the TypeScript language server comes first, and then our Node, which it needs."""
    places = (node_programs / "node_modules/.bin", Path(sys.executable).parent, os.environ["PATH"])
    return os.pathsep.join(map(str, places))


def npm_install(directory: Path) -> Path:
    """Install the locked packages of `directory` once, and return it; parallel test processes wait for each other."""
    mark = directory / "node_modules/.package-lock.json"
    with (directory / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists() and mark.stat().st_mtime >= (directory / "package-lock.json").stat().st_mtime:
            return directory
        npm = Path(sys.executable).parent / "npm"
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=directory,
            env={**os.environ, "NODE_DISABLE_COMPILE_CACHE": "1"},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variables that change the daemon's behaviour out of the environment."""
    for name in list(os.environ):
        if name.startswith(("TOOLBOX_", "DAYTONA_")):
            monkeypatch.delenv(name)


@pytest.fixture
def serve_config(tmp_path: Path, environ: None) -> Callable[..., ServeConfig]:
    """Return a function that makes a configuration with directories of this test."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()

    def make(**options: str) -> ServeConfig:
        arguments = {"port": "0", "work_dir": str(work_dir), "state_dir": str(tmp_path / "state")}
        # The shell is the machine's best otherwise: results must not depend on what is installed.
        arguments |= {"shell": "/bin/bash", **options}
        return ServeConfig.load(arguments, {"HOME": str(tmp_path)})

    return make


@pytest.fixture
async def daemon(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon without a token on loopback."""
    async with run_daemon(serve_config()) as running_daemon:
        yield running_daemon


class run_daemon:  # noqa: N801 -- used like a function
    """Run a daemon of the given configuration in this process."""

    def __init__(self, config: ServeConfig, **headers: str) -> None:
        self._config = config
        self._headers = headers

    async def __aenter__(self) -> Daemon:
        self._running = running(self._config)
        address = await self._running.__aenter__()
        url = f"http://{self._config.host}:{address.port}"
        self._http = aiohttp.ClientSession(url, headers=self._headers)
        return Daemon(url, self._config.work_dir, self._config.state_dir, self._http)

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        await self._running.__aexit__(None, None, None)


@pytest.fixture
async def start_toolboxd(tmp_path: Path, environ: None) -> AsyncIterator[Callable[..., Awaitable["Toolboxd"]]]:
    """Return a function that starts `toolboxd` as a process of its own; all are ended with the test."""
    started: list[Toolboxd] = []

    async def start(*argv: str, env: dict[str, str] | None = None) -> Toolboxd:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "toolbox",
            *argv,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            env={
                **os.environ,
                "TOOLBOX_STATE_DIR": str(tmp_path / "state"),
                "TOOLBOX_SHELL": "/bin/bash",
                "HOME": str(tmp_path),
                **(env or {}),
            },
        )
        toolboxd = Toolboxd(process, audit.given(argv, env or {}))
        toolboxd.state_dir = tmp_path / "state"
        started.append(toolboxd)
        return toolboxd

    yield start
    for toolboxd in started:
        await toolboxd.end()


class Toolboxd:
    """A `toolboxd` process."""

    state_dir: Path

    def __init__(self, process: asyncio.subprocess.Process, secrets: Collection[str] = ()) -> None:
        self.process = process
        self._secrets = {*secrets}

    async def line(self, start: str) -> str:
        """Return the rest of the first line on stdout that begins with `start`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            async for line in self.process.stdout:
                if line.startswith(start.encode()):
                    rest = line.decode().removeprefix(start).strip()
                    self._secrets |= {rest} if start in audit.ANNOUNCED else set()
                    return rest
        _, errors = await self.process.communicate()
        raise AssertionError(f"no line {start!r}: {errors.decode()}")

    async def port(self) -> int:
        """Return the port of a `serve` that is ready."""
        return int(await self.line("Starting toolbox server on port "))

    async def end(self) -> tuple[int, str]:
        """Stop it, if it still runs, and return its exit code and stderr."""
        if self.process.returncode is None:
            self.process.terminate()
        _, errors = await asyncio.wait_for(self.process.communicate(), 30)
        assert self.process.returncode is not None
        audit.check(errors.decode("utf-8", "replace"), self._secrets)
        return self.process.returncode, errors.decode()


_skips: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect skips, for CI."""
    if report.skipped and isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
        _skips.append(f"{report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI an unexpected skip is a failure."""
    unexpected = [skip for skip in _skips if f": {ALLOWED_SKIP}" not in skip]
    if os.environ.get("CI") and unexpected and not hasattr(session.config, "workerinput"):
        print("\nunexpected skips:", *unexpected, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
