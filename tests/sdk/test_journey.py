"""A user's first script, in a process of its own with nothing but the two exports; and the README's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from daytona import Daytona

from tests.sdk.conftest import Server

ROOT = Path(__file__).parents[2]


def run(server: Server, directory: Path, *argv: str) -> str:
    """Run Python as a client of the server, warnings being errors, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", *argv],
        cwd=directory,
        env=server.environ | {"PYTHONPATH": str(ROOT), "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_journey(server: Server, tmp_path: Path, kind: str) -> None:
    run(server, tmp_path, "-m", "tests.sdk.journey", kind)
    assert list(tmp_path.iterdir()) == []


def test_readme(server: Server, tmp_path: Path) -> None:
    found = re.search(r'^python -c "(.*)"$', (ROOT / "README.md").read_text(), re.MULTILINE)
    assert found
    daytona = Daytona(server.config)
    before = {sandbox.id for sandbox in daytona.list()}
    assert run(server, tmp_path, "-c", found[1]) == "hello\n\n"
    [made] = [sandbox for sandbox in daytona.list() if sandbox.id not in before]
    made.delete()
