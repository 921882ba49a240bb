"""The Compose example: started by podman-compose, upgraded to another image, with the state in between."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import ALLOWED_SKIP
from tests.image.conftest import NAME, PORT, ROOT, Engine

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]

_UPGRADED = """
    FROM {image}
    RUN echo yes > /etc/upgraded
"""


class Project:
    """The example as a project of its own, on any free port."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._key = ""

    def compose(self, image: str, *arguments: str) -> None:
        """Run podman-compose, which must succeed."""
        command = [str(Path(sys.executable).with_name("podman-compose")), "--project-name", self._name]
        done = subprocess.run(
            [*command, "--file", str(ROOT / "deploy/compose.yaml"), *arguments],
            env={**self._engine.env, "IMAGE": image, "PUBLISH": "127.0.0.1:"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def drive(self, *arguments: str) -> str:
        """Run the SDK with the key that the logs tell, the same at every start, and return what it prints."""
        container = f"{self._name}_toolbox_1"
        deadline = time.monotonic() + 60
        while not (found := re.search(r"API_KEY=(\S+)", self._engine.call("logs", container))):
            assert time.monotonic() < deadline, "no key"
            time.sleep(0.2)
        assert self._key in ("", found[1])
        self._key = found[1]
        port = self._engine.call("port", container, f"{PORT}/tcp").rpartition(":")[2]
        exports = {"DAYTONA_API_URL": f"http://127.0.0.1:{port}/api", "DAYTONA_API_KEY": self._key}
        done = subprocess.run(
            [sys.executable, "-m", "tests.image.use_compose", *arguments],
            cwd=ROOT,
            env={**os.environ, **exports},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def project(engine: Engine, sandbox_image: str) -> Iterator[Project]:
    """Return a project that is removed with the test, its volume too."""
    if os.path.basename(engine.program) != "podman":  # noqa: PTH119 -- a name
        pytest.skip(f"{ALLOWED_SKIP}only podman-compose is at hand")
    made = Project(engine, f"sandbox-toolbox-test-{uuid4().hex}")
    yield made
    made.compose(sandbox_image, "down", "--volumes")


def test_sandboxes_outlive_an_upgrade(engine: Engine, sandbox_image: str, project: Project, tmp_path: Path) -> None:
    project.compose(sandbox_image, "up", "--detach")
    sandbox_id = project.drive("leave")
    project.compose(sandbox_image, "down")

    recipe = _UPGRADED.format(image=sandbox_image)
    upgraded = engine.build("--file", "-", "--tag", f"{NAME}:upgraded", str(tmp_path), text=recipe)
    project.compose(upgraded, "up", "--detach")
    project.drive("find", sandbox_id)
