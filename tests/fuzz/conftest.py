"""Servers that random requests may do with as they like."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.servers import URL, USER, Server, started

TOKEN = "a-token-of-the-fuzz-tests"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""Examples of each search; 0: a few, always the same."""


def some(examples: int) -> settings:
    """Return the settings of a search that has `examples` where no more are asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )


def cell_directory(factory: pytest.TempPathFactory) -> Path:
    """Return a directory for one server; skip the test where no cell can be made."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("not possible here: namespaces need root")
    return factory.mktemp("cell")


@contextmanager
def serving(directory: Path, **env: str) -> Iterator[Server]:
    """Run a daemon whose children and files are an unprivileged user's."""
    for name in ("work", "home", "recordings"):
        (directory / name).mkdir()
        shutil.chown(directory / name, USER)
    variables = directory / "variables.json"
    variables.write_text(json.dumps({"HOME": str(directory / "home")}))
    options = {
        "TOOLBOX_WORK_DIR": str(directory / "work"),
        "TOOLBOX_ENV_FILE": str(variables),
        "TOOLBOX_RECORDINGS_DIR": str(directory / "recordings"),
        "TOOLBOX_USER": USER,
        "TOOLBOX_DESKTOP": "none",
        "TOOLBOX_RESOLUTION": "320x240",
        "TOOLBOX_MAX_CONTEXTS": "2",
        "TOOLBOX_SPARE_KERNELS": "0",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    with started(directory, "serve", options | env) as server:
        yield server
        assert server.failures() == []


@pytest.fixture(scope="session")
def open_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a daemon that asks for no token."""
    with serving(cell_directory(tmp_path_factory)) as server:
        for path, body in (
            ("git/init", {"path": "repository"}),
            ("files/upload-v2?path=repository/file", {}),
            ("process/session", {"sessionId": "session"}),
            ("process/pty", {"id": "session"}),
        ):
            server.session.post(f"{URL}/{path}", json=body, timeout=60).raise_for_status()
        yield server


@pytest.fixture(scope="session")
def guarded_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a daemon that asks for a token."""
    with serving(cell_directory(tmp_path_factory), TOOLBOX_TOKEN=TOKEN) as server:
        yield server


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a control plane with a sandbox, a volume and a snapshot in it."""
    directory = cell_directory(tmp_path_factory)
    with started(directory, "up", {"HOME": str(directory), "TOOLBOX_TOKEN": TOKEN, "TOOLBOX_SSH_PORT": "0"}) as server:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for path, body in (("sandbox", {"name": "box"}), ("volumes", {"name": "volume"})):
            server.session.post(f"{URL}/api/{path}", json=body, headers=bearer, timeout=60).raise_for_status()
        yield server
        assert server.failures() == []
