"""The script that gives a machine a container engine, where it cannot."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("container-engine")
UNAVAILABLE = 75
TOOLS = ("bash", "env", "flock", "id", "mkdir", "mv")


@pytest.fixture
def bare_machine(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a machine that has neither an engine nor a package manager."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, name
        (programs / name).symlink_to(found)
    return {"PATH": str(programs)}


def run_script(env: dict[str, str], state: Path) -> tuple[int, str, str]:
    done = subprocess.run([SCRIPT, state], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_says_why_there_can_be_no_engine(bare_machine: dict[str, str], tmp_path: Path) -> None:
    reason = "no apt-get to install one" if os.getuid() == 0 else "installing one needs root"
    code, out, err = run_script(bare_machine, tmp_path / "state")
    assert (code, out) == (UNAVAILABLE, "")
    assert err.splitlines()[-1] == f"container-engine: no container engine, and {reason}"


@pytest.mark.skipif(os.getuid() != 0, reason="not possible here: giving a directory away needs root")
def test_refuses_the_state_of_another_user(bare_machine: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 12345)
    code, _, err = run_script(bare_machine, state)
    assert (code, err) == (UNAVAILABLE, f"container-engine: {state} belongs to another user\n")
    assert list(state.iterdir()) == []
