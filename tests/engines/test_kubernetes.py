"""The scripts that give a machine a Kubernetes, as far as they need none."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.engines.kubernetes import pin_modules
from tests.engines.test_container_engine import UNAVAILABLE, bare_machine

__all__ = ["bare_machine"]
HERE = Path(__file__).with_name("kubernetes")
GO_MOD = """\
module k8s.io/kubernetes

require (
	github.com/spf13/cobra v1.8.1
	k8s.io/api v0.0.0
	k8s.io/klog/v2 v2.130.1 // indirect
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
)
"""


def run(*command: str | Path, env: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(os.getuid() == 0, reason="not possible here: root could have one")
def test_needs_root(tmp_path: Path) -> None:
    code, out, err = run(HERE / "cluster", "up", env={**os.environ, "KUBERNETES_STATE": str(tmp_path)})
    assert (code, out, err) == (UNAVAILABLE, "", "kubernetes: the cluster needs root\n")


def test_nothing_is_built_where_nothing_is(tmp_path: Path) -> None:
    assert run(HERE / "build", "--check", tmp_path, env=dict(os.environ))[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_says_what_is_missing(bare_machine: dict[str, str], tmp_path: Path) -> None:
    code, out, err = run(HERE / "build", tmp_path / "state", env=bare_machine)
    assert (code, out) == (UNAVAILABLE, "")
    assert re.fullmatch(r"kubernetes: no \S+, and installing it needs root and apt-get\n", err)


def test_its_modules_are_pinned_to_the_release() -> None:
    assert pin_modules.pinned(GO_MOD, "1.31.4").split() == [
        *("module", "components", "go", "1.22.0"),
        *("require", "(", "github.com/spf13/cobra", "v1.8.1", "k8s.io/api", "v0.31.4"),
        *("k8s.io/klog/v2", "v2.130.1", "k8s.io/kubernetes", "v1.31.4", ")"),
        *("replace", "(", "k8s.io/api", "=>", "k8s.io/api", "v0.31.4", ")"),
    ]
