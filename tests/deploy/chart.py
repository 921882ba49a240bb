"""The Helm chart, as Helm renders it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ALLOWED_SKIP

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/sandbox-toolbox"
VALUES = sorted((ROOT / "tests/deploy/values").glob("*.yaml"))
"""Files with values that tests install the chart with."""
CONTROL_PLANE = {"app.kubernetes.io/name": "sandbox-toolbox", "app.kubernetes.io/component": "controlplane"}
Object = dict[str, Any]


class Helm:
    """Helm, which tests/engines/helm has built. Skips the test where it is not built."""

    def __init__(self) -> None:
        found = subprocess.run([ROOT / "tests/engines/helm", "--check"], capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.skip(f"{ALLOWED_SKIP}Helm is not built; tests/engines/helm does that in some minutes")
        self._program = found.stdout.strip().removeprefix("HELM=")

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Helm, whatever comes of it."""
        return subprocess.run([self._program, *argv], capture_output=True, text=True, timeout=100, check=False)

    def __call__(self, *argv: str | Path) -> str:
        """Run Helm, which must succeed, and return what it prints."""
        done = self.run(*argv)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def render(self, *options: str | Path, name: str = "sandbox-toolbox", namespace: str = "here") -> list[Object]:
        """Return the objects of the chart."""
        text = self("template", name, CHART, "--namespace", namespace, *options)
        return [each for each in yaml.safe_load_all(text) if each]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of that kind."""
    return [each for each in objects if each["kind"] == kind]


def pod_specs(objects: list[Object]) -> Iterator[Object]:
    """Yield the specs of all pods that come of the objects."""
    for each in of_kind(objects, "Deployment"):
        yield each["spec"]["template"]["spec"]
    for each in of_kind(objects, "SandboxTemplate"):
        yield each["spec"]["podTemplate"]["spec"]
