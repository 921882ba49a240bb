"""The bundle on this machine: what is in it, and what its launchers do."""

import subprocess
from pathlib import Path

import pytest

from toolbox import __version__

pytestmark = pytest.mark.timeout(300)


def run(program: Path, *argv: str, **env: str) -> str:
    """Run a program that must succeed and say nothing on stderr."""
    done = subprocess.run([program, *argv], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_starts_by_any_name_of_it(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(bundle / "bin/toolboxd")
    assert run(link, "--version") == f"{__version__}\n"


def test_a_library_to_preload_is_for_children_only(bundle: Path) -> None:
    program = "import os, sys; print(os.environ['LD_PRELOAD'], *os.environ, sys.executable)"
    shown = run(bundle / "bin/python3", "-c", program, LD_PRELOAD="/nowhere.so")
    assert shown.split() == ["/nowhere.so", "LD_PRELOAD", str(bundle / "bin/python3")]


def test_own_python_starts_itself_again(bundle: Path) -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'toolbox', '--version'], check=True)"
    assert run(bundle / "bin/python3", "-c", program) == f"{__version__}\n"


def test_a_launcher_elsewhere_says_what_it_misses(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "bin/toolboxd"
    copy.write_bytes((bundle / "bin/toolboxd").read_bytes())
    copy.chmod(0o755)
    done = subprocess.run([copy], capture_output=True, text=True, check=False)
    expected = f"toolboxd: {tmp_path}/loader/toolboxd: No such file or directory\n"
    assert (done.returncode, done.stderr) == (127, expected)


@pytest.mark.parametrize("what", ["file", "dir/file"])
def test_is_not_installed_among_other_things(bundle: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / what).parent.mkdir(exist_ok=True)
    (tmp_path / what).touch()
    done = subprocess.run([bundle / "bin/toolboxd", "install", tmp_path], capture_output=True, text=True, check=False)
    expected = f"toolboxd: cannot install into {tmp_path}: there is something else in it\n"
    assert (done.returncode, done.stderr) == (2, expected)
    assert (tmp_path / what).exists()


def test_an_attempt_that_fails_is_said_and_seen(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    command = ["sh", "-c", 'ulimit -f 2000; exec "$@"', "sh", f"{bundle}/bin/toolboxd", "install", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith(f"toolboxd: cannot install into {target}: {bundle}/")
    assert "File too large" in done.stderr
    assert (target / ".incomplete").exists()


def test_is_compiled_and_open_to_every_user(bundle: Path) -> None:
    module = bundle / "packages/toolbox/__pycache__"
    assert [path.name for path in module.glob("app.*.pyc")], "not compiled: each start would be slow"
    unreadable = [path for path in bundle.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o444 != 0o444]
    assert unreadable == []


def test_what_kernels_do_without_is_not_there(bundle: Path) -> None:
    packages = bundle / "packages"
    found = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert found & {"debugpy", "jedi", "parso", "prompt_toolkit", "wcwidth", "share"} == set()
    assert [path for path in packages.rglob("test*") if path.name in ("test", "tests")] == []


def test_the_client_of_kubernetes_comes_without_generated_classes(bundle: Path) -> None:
    program = """
import sys
from kubernetes_asyncio import client, config, watch
config.load_kube_config, watch.Watch, client.ApiClient, client.ApiException
print(len([name for name in sys.modules if name.startswith("kubernetes_asyncio")]) < 50)
"""
    assert run(bundle / "bin/python3", "-c", program) == "True\n"


def test_every_package_brings_its_licence(bundle: Path) -> None:
    words = ("licen", "copying", "notice")
    without = [
        package.name
        for package in (bundle / "packages").glob("*.dist-info")
        if not any(word in path.name.lower() for path in package.rglob("*") if path.is_file() for word in words)
    ]
    assert without == []


def test_every_package_can_be_imported(bundle: Path) -> None:
    program = """
import importlib, importlib.metadata
names = [name for name in importlib.metadata.packages_distributions() if name.isidentifier()]
names.remove("matplotlib_inline")  # which is of use once the user has matplotlib
names.remove("_re2")  # which lies in re2
for name in names:
    importlib.import_module(name)
print(*names)
"""
    imported = run(bundle / "bin/python3", "-c", program).split()
    assert {"toolbox", "aiohttp", "aiosqlite", "ipykernel", "kubernetes_asyncio", "mss", "re2"} <= set(imported)
