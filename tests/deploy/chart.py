"""The Helm chart, as Helm renders it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ALLOWED_SKIP

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "tests/engines/helm"
CHART = ROOT / "deploy/helm/sandbox-toolbox"
VALUES = sorted((ROOT / "tests/deploy/values").glob("*.yaml"))
"""Files with values that tests install the chart with."""
CONTROL_PLANE = {"app.kubernetes.io/name": "sandbox-toolbox", "app.kubernetes.io/component": "controlplane"}
Object = dict[str, Any]


class Helm:
    """Helm as tests/engines/helm builds it, which takes minutes, so not for all tests but for those on Kubernetes.

    Skips the test where there is none.
    """

    def __init__(self) -> None:
        wanted = [] if os.environ.get("TEST_KUBERNETES") else ["--check"]
        found = subprocess.run([BUILD, *wanted], capture_output=True, text=True, check=False)
        if found.returncode:
            why = found.stderr.strip() or "Helm is not built: `make test-kubernetes` does that"
            pytest.skip(ALLOWED_SKIP + why)
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
