"""The desktop image: XFCE, driven by the published SDK. It takes minutes to build: `make test-images` runs this."""

import subprocess
import sys

import pytest

from tests.image.conftest import ROOT, STOP_SECONDS, BuildStage, Engine, StartContainer

pytestmark = [pytest.mark.image, pytest.mark.timeout(3600)]


@pytest.fixture(scope="session")
def desktop_image(build_stage: BuildStage) -> str:
    """Return the id of the image with a screen."""
    return build_stage("desktop")


@pytest.mark.parametrize("user", ["root", "sandbox"])
def test_sdk_uses_the_screen(desktop_image: str, start_container: StartContainer, user: str) -> None:
    container = start_container(desktop_image, options=["--user", user])
    command = [sys.executable, "-m", "tests.image.use_desktop", user]
    done = subprocess.run(command, cwd=ROOT, env=container.exports(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert container.terminate(STOP_SECONDS) == 0


def test_nothing_is_missing(engine: Engine, desktop_image: str) -> None:
    run = ("run", "--rm", "--pull=never", "--network=none", desktop_image, "doctor")
    assert "missing  program" not in engine.call(*run)
