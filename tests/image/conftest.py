"""The built images, and containers that are gone with the test."""

import fcntl
import http.client
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pytest

from tests.conftest import ALLOWED_SKIP

# The desktop image takes minutes to build: not with all other tests, but by `make test-images`.
collect_ignore = [] if os.environ.get("TEST_DESKTOP_IMAGE") else ["test_desktop.py"]

ROOT = Path(__file__).parents[2]
PORT = 2280
NAME = "localhost/sandbox-toolbox-test"
"""What the images of these tests are called; containers are run by image id, so that two test runs do not mix."""
_LABEL = "sandbox-toolbox-test=1"
"""By this the images of earlier runs are found and removed, an hour later: no other run still needs them then."""
_UNAVAILABLE = 75
_END_SECONDS = 30
STOP_SECONDS = 30
"""Within these a container has to end by SIGTERM; a machine busy with others takes a while to remove it."""


@dataclass(frozen=True)
class Engine:
    """The command line of a container engine."""

    program: str
    build_options: Sequence[str]
    env: Mapping[str, str]

    def call(self, *arguments: str, text: str = "") -> str:
        """Run a command of the engine with `text` on its stdin and return what it prints; it must succeed."""
        done = subprocess.run(
            [self.program, *arguments], input=text, capture_output=True, text=True, env=self.env, check=False
        )
        assert done.returncode == 0, f"{self.program} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def build(self, *arguments: str, text: str = "") -> str:
        """Build an image and return its id."""
        options = ["--quiet", f"--label={_LABEL}", *self.build_options]
        return self.call("build", *options, *arguments, text=text).splitlines()[-1]


class Container:
    """A container in the foreground."""

    def __init__(self, engine: Engine, name: str, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.name = name
        self._engine = engine
        self._process = process
        self._errors = errors
        self._exports: dict[str, str] = {}

    def line(self, start: str) -> str:
        """Return the rest of the first line on stdout that begins with `start`."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(start):
                return line.removeprefix(start).strip()
        raise AssertionError(f"no line {start!r}: {self.errors()}")

    def errors(self) -> str:
        """Return what it has written to stderr so far."""
        self._errors.flush()
        return os.pread(self._errors.fileno(), os.fstat(self._errors.fileno()).st_size, 0).decode()

    def exports(self) -> dict[str, str]:
        """Return the environment of a client of the sandboxes API that runs in it, once that is ready."""
        if not self._exports:
            self.line("export DAYTONA_API_URL=")
            key = self.line("export DAYTONA_API_KEY=")
            url = f"http://127.0.0.1:{self.port}/api"
            self._exports = {**os.environ, "DAYTONA_API_URL": url, "DAYTONA_API_KEY": key}
        return self._exports

    @property
    def port(self) -> int:
        """The port of this machine that the container's is published at."""
        return int(self._engine.call("port", self.name, f"{PORT}/tcp").rpartition(":")[2])

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a request and return the status and the JSON answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def exec(self, *command: str, options: Sequence[str] = ()) -> str:
        """Run a command in it and return what it prints; it must succeed."""
        return self._engine.call("exec", *options, self.name, *command)

    def terminate(self, seconds: float) -> int:
        """Send SIGTERM and return the exit code, which must come in time."""
        self._engine.call("kill", "--signal=TERM", self.name)
        return self._process.wait(seconds)


StartContainer = Callable[..., Container]


@contextmanager
def _running(engine: Engine, image: str, arguments: Sequence[str], options: Sequence[str]) -> Iterator[Container]:
    name = f"sandbox-toolbox-test-{uuid4().hex}"
    command = [engine.program, "run", "--rm", "--pull=never", "--log-driver=none", "--name", name]
    publish = ["--publish", f"127.0.0.1::{PORT}"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [*command, *publish, *options, image, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=engine.env,
            text=True,
        ) as process,
    ):
        try:
            yield Container(engine, name, process, errors)
        finally:
            # Fails where the container is already gone, which the check below wants.
            subprocess.run([engine.program, "rm", "--force", name], capture_output=True, env=engine.env, check=False)
            process.wait(_END_SECONDS)
            _wait_until_gone(engine, name)


def _wait_until_gone(engine: Engine, name: str) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while engine.call("ps", "--all", "--quiet", "--filter", f"name={name}"):
        assert time.monotonic() < deadline, f"container left behind: {name}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Return this machine's container engine, set up if need be; skip where it cannot have one."""
    done = subprocess.run([ROOT / "tests/engines/container-engine"], capture_output=True, text=True, check=False)
    if done.returncode == _UNAVAILABLE:
        pytest.skip(ALLOWED_SKIP + done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    env = {**os.environ, **{name: value for name, value in found.items() if name == "CONTAINERS_CONF"}}
    return Engine(found["CONTAINER_ENGINE"], Path(found["BUILD_ARGS_FILE"]).read_text().split(), env)


BuildStage = Callable[[str], str]


@pytest.fixture(scope="session")
def build_stage(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> BuildStage:
    """Return a function that builds a stage of the Dockerfile as `make images` does, and returns the image's id."""
    shared, made = tmp_path_factory.getbasetemp().parent, dict[str, str]()

    def build(stage: str) -> str:
        if stage not in made:
            # One at a time, so that the second test process finds all layers made by the first.
            with (shared / "image.lock").open("w") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                id_file = shared / f"image-{stage}"
                options = f"--quiet --label={_LABEL} --iidfile={id_file}"
                env = {**engine.env, "IMAGE": NAME, "BUILD_OPTIONS": options}
                command = [str(ROOT / "images/build"), stage]
                done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
                made[stage] = id_file.read_text()
                engine.call("image", "prune", "--force", "--filter", f"label={_LABEL}", "--filter", "until=1h")
        return made[stage]

    return build


@pytest.fixture(scope="session")
def sandbox_image(build_stage: BuildStage) -> str:
    """Return the id of the default image."""
    return build_stage("sandbox")


@pytest.fixture
def start_container(engine: Engine) -> Iterator[StartContainer]:
    """Return a function that runs an image with the daemon's port published; all are removed with the test."""
    with ExitStack() as stack:

        def start(image: str, *arguments: str, options: Sequence[str] = ()) -> Container:
            return stack.enter_context(_running(engine, image, arguments, options))

        yield start
