"""Published SDKs of several versions, unmodified: each walks once through a sandbox. The README names them."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sdk.conftest import Server

ROOT = Path(__file__).parents[2]
MATRIX = Path(__file__).parent / "matrix"
OLD = ROOT / "build/sdks"
"""Made by `make sdks`: an environment for each file of pinned packages in `matrix/`."""


@dataclass(frozen=True)
class Client:
    """A version of an SDK."""

    package: str
    version: str
    imported_as: str
    """What a program imports; for npm an alias, where several versions are side by side."""

    def __str__(self) -> str:
        return f"{self.package}-{self.version}"


PYTHON = [
    Client("daytona", "0.226.1", "daytona"),
    Client("daytona", "0.205.1", "daytona"),
    Client("daytona", "0.173.0", "daytona"),
    Client("daytona", "0.143.0", "daytona"),
    Client("daytona-sdk", "0.125.0", "daytona_sdk"),
]
TYPESCRIPT = [
    Client("@daytonaio/sdk", "0.218.0", "@daytonaio/sdk"),
    Client("@daytona/sdk", "0.216.0", "@daytona/sdk"),
    Client("@daytonaio/sdk", "0.195.0", "daytona-sdk-0.195"),
    Client("@daytonaio/sdk", "0.169.0", "daytona-sdk-0.169"),
    Client("@daytonaio/sdk", "0.143.0", "daytona-sdk-0.143"),
]


def walk(server: Server, directory: Path, *argv: str | Path, **environ: str) -> None:
    """Run a program that prints what became of each step; all must have been done."""
    done = subprocess.run(
        argv,
        # The SDKs look for `.env` in the working directory.
        cwd=directory,
        env=server.environ | {"HOME": str(directory), **environ},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout.splitlines()[-1])
    wrong = {name: said for name, said in steps.items() if said is not None}
    assert not wrong, "\n\n".join(f"{name}: {said}" for name, said in wrong.items())
    assert steps.keys() >= {"create", "delete"}


def own_python(client: Client) -> Path:
    """Return the Python that has this version."""
    if client is PYTHON[0]:
        return Path(sys.executable)
    python = OLD / str(client) / "bin/python"
    assert python.exists(), "make sdks"
    return python


@pytest.mark.parametrize("client", PYTHON, ids=str)
def test_python(server: Server, tmp_path: Path, client: Client) -> None:
    walk(server, tmp_path, own_python(client), MATRIX / "journey.py", client.imported_as)


@pytest.mark.parametrize("client", TYPESCRIPT, ids=str)
def test_typescript(server: Server, typescript_sdk: Path, tmp_path: Path, client: Client) -> None:
    node = Path(sys.executable).parent / "node"
    walk(server, tmp_path, node, MATRIX / "journey.cjs", client.imported_as, SDK_DIRECTORY=str(typescript_sdk))


@pytest.mark.parametrize("client", PYTHON, ids=str)
def test_the_version_of_a_python_client(client: Client) -> None:
    program = f"import importlib.metadata; print(importlib.metadata.version({client.package!r}))"
    done = subprocess.run([own_python(client), "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == client.version


@pytest.mark.parametrize("client", TYPESCRIPT, ids=str)
def test_the_version_of_a_typescript_client(typescript_sdk: Path, client: Client) -> None:
    package = json.loads((typescript_sdk / "node_modules" / client.imported_as / "package.json").read_text())
    assert (package["name"], package["version"]) == (client.package, client.version)


def test_the_readme_names_these_versions() -> None:
    rows = re.findall(r"^\| (?:PyPI|npm) `(.+?)` \| (.+?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    wanted: dict[str, list[str]] = {}
    for client in (*PYTHON, *TYPESCRIPT):
        wanted.setdefault(client.package, []).append(client.version)
    assert {package: versions.split(", ") for package, versions in rows} == wanted
