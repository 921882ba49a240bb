"""Replicas of the control plane, each a process on this machine, with one namespace of the cluster as their memory."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp

from tests.controlplane.conftest import Plane
from tests.kubernetes.cluster import WAIT_SECONDS, Namespace

T = TypeVar("T")
_PRINTED = re.compile(r"export DAYTONA_API_URL=http://127\.0\.0\.1:(\d+)/api\nexport DAYTONA_API_KEY=(\S+)\n")


class Replica:
    """One of them; it can be killed, stopped, and started again at the same port."""

    def __init__(self, namespace: Namespace, directory: Path, **options: str) -> None:
        self._namespace = namespace
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.api_key = ""

    @property
    def log(self) -> str:
        """What it has written."""
        return (self._directory / "log").read_text()

    @property
    def state_dir(self) -> Path:
        """Its own directory, which no other replica sees."""
        return self._directory / "state"

    def begin(self) -> None:
        """Start it, and do not wait until it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        options = {
            "driver": "kubernetes",
            "kubeconfig": str(self._namespace.cluster.kubeconfig),
            "namespace": self._namespace.name,
            "state-dir": str(self.state_dir),
            "port": str(self.port),
            **self._options,
        }
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))}
        with (self._directory / "log").open("ab") as log, (self._directory / "printed").open("wb") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "toolbox", "up", *(f"--{name}={value}" for name, value in options.items())],
                stdout=printed,
                stderr=log,
                cwd=self._directory,
                env=environ | {"HOME": str(self._directory)},
            )

    def wait(self) -> None:
        """Return once it answers."""
        assert self._process is not None
        deadline = time.monotonic() + WAIT_SECONDS
        while (found := _PRINTED.search((self._directory / "printed").read_text())) is None:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        self.port, self.api_key = int(found[1]), found[2]

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.begin()
        self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does."""
        self.signal(signal.SIGKILL)
        self.wait_for_end()

    def wait_for_end(self) -> int:
        """Return its exit code."""
        assert self._process is not None
        code = self._process.wait(WAIT_SECONDS)
        self._process = None
        return code

    def stop(self) -> None:
        """End it, if it runs, as its operator does; it must end well."""
        if self._process is not None:
            self.signal(signal.SIGTERM)
            assert self.wait_for_end() == 0, self.log

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Plane]:
        """Return a client of it."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            yield Plane(self.port, self.api_key, self.state_dir, http)


@contextmanager
def replicas(namespace: Namespace, directory: Path, count: int, **options: str) -> Iterator[list[Replica]]:
    """Run some of them, which end well in the end."""
    found = [Replica(namespace, directory / f"replica-{number}", **options) for number in range(count)]
    try:
        for each in found:
            each.begin()
        for each in found:
            each.wait()
        yield found
    finally:
        for each in found:
            each.stop()


@asynccontextmanager
async def clients(found: list[Replica]) -> AsyncIterator[list[Plane]]:
    """Return a client of each."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(each.client()) for each in found]


async def everywhere(planes: list[Plane], ask: Callable[[Plane], Awaitable[T]]) -> T:
    """Return what all of them answer as soon as they agree, which they have to."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found = [await ask(plane) for plane in planes]
            if all(each == found[0] for each in found):
                return found[0]
            await asyncio.sleep(0.05)
