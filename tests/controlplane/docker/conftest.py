"""An engine that serves the Docker Engine API, images of several kinds, a driver and a control plane on them."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controlplane.drivers.base import Access, Launch, Resources
from controlplane.drivers.docker.driver import DockerDriver
from controlplane.upstreams import Upstream
from tests.bundle.conftest import bundle
from tests.conftest import ALLOWED_SKIP
from tests.controlplane.conftest import Plane, plane_on
from tests.image.conftest import Engine, engine

__all__ = ["bundle", "engine"]
ROOT = Path(__file__).parents[3]
DEBIAN = "debian:bookworm-slim"
_UNAVAILABLE = 75
_START_SECONDS = 30
_KINDS = {
    # As on Alpine: no glibc, no bash, none of the GNU programs.
    "musl": ("busybox-static", "musl"),
    "without-bash": ("coreutils", "dash"),
}
"""Images beside Debian's, and the packages they are made of."""


class Service:
    """The engine's API on a socket; Podman's is a process of these tests that can be ended."""

    def __init__(self, engine: Engine, socket: Path) -> None:
        self.host = f"unix://{socket}"
        self.directory = socket.parent
        """Where the engine writes what it is about to make."""
        self._engine = engine
        self._socket = socket
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve, and return once it does."""
        if self._engine.program != "podman":
            self.host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
            return
        self._socket.unlink(missing_ok=True)
        command = ["podman", "system", "service", "--time=0", self.host]
        environment = {**self._engine.env, "TMPDIR": str(self.directory)}
        # Conmon leaves a file where it is started when a container runs out of memory.
        self._process = subprocess.Popen(command, cwd=self.directory, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while not self._socket.exists():
            assert self._process.poll() is None, "podman does not serve its API"
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self) -> None:
        """Serve no more; containers go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _serving(engine: Engine, directory: Path) -> Iterator[Service]:
    service = Service(engine, directory / "engine.sock")
    service.start()
    yield service
    service.end()


@pytest.fixture(scope="session")
def service(engine: Engine) -> Iterator[Service]:
    """Serve the engine's API."""
    with tempfile.TemporaryDirectory() as directory:
        yield from _serving(engine, Path(directory))


@pytest.fixture
def mortal_service(engine: Engine, reap_orphans: None) -> Iterator[Service]:
    """Serve the engine's API for one test, which may end it."""
    if engine.program != "podman":
        pytest.skip(f"{ALLOWED_SKIP}this machine's engine is not ours to end")
    with tempfile.TemporaryDirectory() as directory:
        yield from _serving(engine, Path(directory))


@dataclass
class Owned:
    """What belongs to the control plane or driver of a state directory; removed when the test ends."""

    engine: Engine
    state_dirs: list[Path] = field(default_factory=list)

    @staticmethod
    def owner(state_dir: Path) -> str:
        """Return what a driver calls itself in the engine."""
        return hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]

    def find(self, state_dir: Path) -> dict[str, list[str]]:
        """Return what is there of a driver: containers, images, volumes."""
        owner = self.owner(state_dir)
        label = f"label=sandbox-toolbox.owner={owner}"
        images = self.engine.call("images", "--quiet", f"localhost/sandbox-toolbox-{owner}")
        return {
            "containers": self.engine.call("ps", "--all", "--quiet", "--filter", label).split(),
            "images": images.split(),
            "volumes": self.engine.call("volume", "ls", "--quiet", "--filter", label).split(),
        }

    def remove(self) -> None:
        """Remove all of it."""
        for state_dir in self.state_dirs:
            found = self.find(state_dir)
            for what, command in (
                ("containers", ["rm", "--volumes"]),
                ("volumes", ["volume", "rm"]),
                ("images", ["rmi"]),
            ):
                if found[what]:
                    self.engine.call(*command, "--force", *found[what])


@pytest.fixture
def owned(engine: Engine, reap_orphans: None) -> Iterator[Owned]:
    """Return what finds the things of a state directory, and removes them in the end."""
    found = Owned(engine)
    yield found
    found.remove()


def inspect(engine: Engine, state_dir: Path, sandbox_id: str) -> Any:
    """Return what the engine knows of a sandbox's container."""
    return json.loads(engine.call("inspect", container_name(state_dir, sandbox_id)))[0]


def container_name(state_dir: Path, sandbox_id: str) -> str:
    """Return the name of a sandbox's container."""
    return f"toolbox-{Owned.owner(state_dir)}-{sandbox_id}"


@dataclass
class Driven:
    """A driver without a control plane, and how to run commands in what it starts."""

    driver: DockerDriver
    state_dir: Path

    async def start(self, sandbox_id: str, **fields: Any) -> Access:
        """Make a sandbox and start it."""
        launch = self.launch(sandbox_id, **fields)
        await self.driver.create(launch)
        return await self.driver.start(launch)

    def launch(self, sandbox_id: str, **fields: Any) -> Launch:
        """Return what the driver is told of a sandbox."""
        return Launch(id=sandbox_id, **{"env": {}, "resources": self.resources, **fields})

    @property
    def resources(self) -> Resources:
        """A small sandbox."""
        disk = self.driver._engine.machine.disk
        return Resources(cpu=1, memory=1, disk=disk)

    async def execute(self, access: Access, command: str) -> str:
        """Run a command and return its output; the exit code must be 0."""
        answer = await self.call(access, "POST", "/process/execute", {"command": command})
        assert answer["exitCode"] == 0, answer
        return str(answer["result"]).strip()

    async def call(self, access: Access, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call a daemon and return its answer."""
        async with Upstream(access) as upstream:
            headers = {"Authorization": upstream.authorization}
            url = upstream.origin + path
            async with upstream.session.request(method, url, json=body, headers=headers) as response:
                assert response.ok, await response.text()
                return await response.json()


@asynccontextmanager
async def driver_on(state_dir: Path, service: Service, bundle: Path, **options: Any) -> AsyncIterator[Driven]:
    """Run a driver on a state directory."""
    async with DockerDriver(state_dir, service.host, bundle=bundle, **{"image": DEBIAN, **options}) as driver:
        yield Driven(driver, state_dir)


@pytest.fixture
async def driven(tmp_path: Path, service: Service, bundle: Path, owned: Owned) -> AsyncIterator[Driven]:
    """Run a driver whose sandboxes are gone with the test."""
    owned.state_dirs.append(tmp_path / "driver")
    async with driver_on(tmp_path / "driver", service, bundle) as found:
        yield found


@asynccontextmanager
async def docker_plane(
    state_dir: Path, service: Service, bundle: Path, owned: Owned, **more: str
) -> AsyncIterator[Plane]:
    """Run a control plane with the docker driver."""
    if state_dir / "controlplane" not in owned.state_dirs:
        owned.state_dirs.append(state_dir / "controlplane")
    options = {"driver": "docker", "docker_host": service.host, "bundle": str(bundle), "image": DEBIAN}
    async with plane_on(state_dir, **options, **more) as plane:
        yield plane


@pytest.fixture
async def plane(tmp_path: Path, service: Service, bundle: Path, owned: Owned) -> AsyncIterator[Plane]:
    """Run a control plane with the docker driver that is gone with the test."""
    async with docker_plane(tmp_path / "state", service, bundle, owned) as found:
        yield found


@pytest.fixture(scope="session")
def image_of(engine: Engine) -> Callable[[str], str]:
    """Return a function that makes an image of a kind, once, and returns its name; skip where that cannot be."""

    def make(kind: str) -> str:
        name = f"localhost/sandbox-toolbox-test-{kind}:1"
        command = [engine.program, "image", "inspect", name]
        if subprocess.run(command, capture_output=True, env=engine.env, check=False).returncode:
            with tempfile.TemporaryDirectory() as directory:
                root = Path(directory, "root")
                command = [str(ROOT / "tests/engines/root-filesystem"), "bookworm", str(root), *_KINDS[kind]]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode == _UNAVAILABLE:
                    pytest.skip(ALLOWED_SKIP + done.stderr.strip().splitlines()[-1])
                assert done.returncode == 0, done.stderr
                archive = shutil.make_archive(str(root), "tar", root)
                engine.call("import", archive, name)
        return name

    return make
