"""The daemon copied into images of others, which know nothing of it, and driven there by the published SDK."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALLOWED_SKIP
from tests.image.conftest import NAME, ROOT, STOP_SECONDS, BuildStage, Engine, StartContainer

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]

_UNAVAILABLE = 75
_BAKE = """
    COPY --from={daemon} /opt/sandbox-toolbox /opt/sandbox-toolbox
    ENTRYPOINT ["/opt/sandbox-toolbox/bin/toolboxd"]
    CMD ["up", "--host", "0.0.0.0"]
"""
_BASES = {
    # As it comes: it has neither Python nor Node.
    "debian": "FROM debian:bookworm-slim",
    # As the official images: what they are about is in /usr/local, with a package manager, and nothing else.
    "python": """
        FROM {python}
        COPY --from={sandbox} /usr/local/lib/python3.11/dist-packages /usr/local/lib/python3.11/dist-packages
    """,
    "node": """
        FROM debian:bookworm-slim
        COPY --from={node} /usr/local/bin/node /usr/local/bin/npm /usr/local/bin/
        COPY --from={node} /usr/local/lib/node_modules /usr/local/lib/node_modules
    """,
    # A newer glibc than the daemon's own, as Ubuntu has (24.04's lies between this and ours): Debian's, not set up.
    "newer": """
        FROM scratch
        COPY root /
        USER 1000:1000
        WORKDIR /tmp
    """,
}


@pytest.fixture
def stages(build_stage: BuildStage) -> dict[str, str]:
    """Build the stages that things are copied from, and return their names."""
    names = ("python", "node", "daemon", "sandbox")
    for name in names:
        build_stage(name)
    return {name: f"{NAME}:{name}" for name in names}


@pytest.mark.parametrize("base", _BASES)
def test_sdk_drives_the_daemon_in(
    base: str, engine: Engine, stages: dict[str, str], start_container: StartContainer, tmp_path: Path
) -> None:
    if base == "newer":
        _make_root(tmp_path / "root")
    recipe = (_BASES[base] + _BAKE).format(**stages)
    image = engine.build("--file", "-", "--tag", f"{NAME}:baked-{base}", str(tmp_path), text=recipe)
    container = start_container(image, options=["--env", "TOOLBOX_STATE_DIR=/tmp/state"])
    uid = "1000" if base == "newer" else "0"
    for program in (("tests.bundle.journey", uid), ("tests.image.use_baked", base)):
        command = [sys.executable, "-m", *program]
        done = subprocess.run(command, cwd=ROOT, env=container.exports(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert container.terminate(STOP_SECONDS) == 0


def _make_root(root: Path) -> None:
    script = str(ROOT / "tests/engines/root-filesystem")
    command = [script, "trixie", str(root), "bash", "coreutils", "dash"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == _UNAVAILABLE:
        pytest.skip(ALLOWED_SKIP + done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    root.chmod(0o755)
