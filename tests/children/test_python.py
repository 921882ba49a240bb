"""Which Python is chosen."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.conftest import Daemon, run_daemon
from toolbox.children.environment import Environment
from toolbox.children.process import Children
from toolbox.children.python import Python, Pythons
from toolbox.config import ConfigError, ServeConfig

OWN = Python(path=sys.executable, origin="daemon")


@pytest.fixture
async def children() -> AsyncIterator[Children]:
    async with Children() as spawner:
        yield spawner


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """Return a real interpreter without ipykernel."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    return str(tmp_path / "venv/bin/python3")


def pythons(children: Children, path: str, configured: Path | None = None) -> tuple[Pythons, dict[str, str]]:
    environment = Environment(Path("/"))
    environment.update({"PATH": path}, [], "")
    return Pythons(children, environment, configured), environment.child()


async def test_the_sandboxes_own_if_it_has_ipykernel(children: Children) -> None:
    found, env = pythons(children, str(Path(sys.executable).parent))
    own = Python(path=str(Path(sys.executable).with_name("python3")), origin="sandbox")
    assert await found.for_kernels() == own
    assert await found.for_programs(env) == own


async def test_kernels_in_the_daemons_own_if_the_sandboxes_has_no_ipykernel(children: Children, bare: str) -> None:
    found, env = pythons(children, str(Path(bare).parent))
    assert await found.for_kernels() == OWN
    assert await found.for_programs(env) == Python(path=bare, origin="sandbox")
    # Installed meanwhile, it counts.
    (package,) = Path(bare).parent.parent.glob("lib/python*/site-packages")
    (package / "ipykernel.py").touch()
    assert await found.for_kernels() == Python(path=bare, origin="sandbox")


async def test_it_is_asked_once_while_nothing_changes(children: Children, bare: str, tmp_path: Path) -> None:
    found, _ = pythons(children, str(Path(bare).parent))

    async def asked() -> bool:
        before = len(list(children))
        assert await found.for_kernels() == OWN
        return len(list(children)) > before

    assert [await asked() for _ in range(3)] == [True, False, False]
    (package,) = Path(bare).parent.parent.glob("lib/python*/site-packages")
    (package / "other.py").touch()
    assert [await asked() for _ in range(2)] == [True, False]
    Path(bare).unlink()
    Path(bare).symlink_to(shutil.copy(os.path.realpath(sys.executable), tmp_path / "newer"))
    assert await asked()


async def test_for_the_user_alone_it_is_found_too(children: Children, tmp_path: Path) -> None:
    environment = Environment(Path("/"))
    environment.update({"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}, [], "")
    chosen = tmp_path / "python3"
    chosen.write_text('#!/bin/sh\nexec "$CHOSEN" "$@"\n')
    chosen.chmod(0o755)
    base = os.path.realpath(sys.executable)
    environment.update({"CHOSEN": base}, [], "")
    found = Pythons(children, environment, None)
    for _ in range(2):
        assert await found.for_kernels() == OWN
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / ".local/lib" / version / "site-packages"
    site.mkdir(parents=True)
    (site / "ipykernel.py").touch()
    assert await found.for_kernels() == Python(path=str(chosen), origin="sandbox")


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\nkill -9 $$\n", "#!/nowhere\n", ""])
async def test_a_python3_that_does_not_run(children: Children, tmp_path: Path, text: str) -> None:
    (tmp_path / "python3").write_text(text)
    (tmp_path / "python3").chmod(0o755)
    found, _ = pythons(children, str(tmp_path))
    assert await found.for_kernels() == OWN


async def test_no_python3_at_all(children: Children) -> None:
    found, env = pythons(children, "/nowhere")
    assert await found.for_kernels() == OWN
    assert await found.for_programs(env) == OWN


async def test_the_configured_one_wins(children: Children, bare: str) -> None:
    found, env = pythons(children, "/usr/bin", Path(bare))
    assert await found.for_kernels() == Python(path=bare, origin="configured")
    assert await found.for_programs(env) == Python(path=bare, origin="configured")


@pytest.mark.parametrize("path", ["/nowhere", "/etc/passwd", "/etc"])
def test_one_that_cannot_be_configured(serve_config: Callable[..., ServeConfig], path: str) -> None:
    with pytest.raises(ConfigError, match=path):
        serve_config(kernel_python=path)


async def test_the_system_route_shows_them(serve_config: Callable[..., ServeConfig], bare: str) -> None:
    async def shown(daemon: Daemon) -> dict[str, object]:
        async with daemon.http.get("/system") as response:
            answer: dict[str, object] = await response.json()
            return answer

    async with run_daemon(serve_config(kernel_python=bare)) as daemon:
        answer = await shown(daemon)
        assert answer["kernelPython"] == answer["programPython"] == {"path": bare, "origin": "configured"}
        assert (answer["workDir"], answer["shell"]) == (str(daemon.work_dir), "/bin/bash")
    async with run_daemon(serve_config()) as daemon:
        body = {"set": {"PATH": str(Path(bare).parent)}}
        async with daemon.http.post("/env", json=body) as response:
            assert response.status == 200
        answer = await shown(daemon)
        assert answer["kernelPython"] == {"path": sys.executable, "origin": "daemon"}
        assert answer["programPython"] == {"path": bare, "origin": "sandbox"}


@pytest.mark.parametrize("how", ["flag", "variable"])
async def test_the_command_line_prints_it(bare: str, environ: None, how: str) -> None:
    more = ["--kernel-python", bare] if how == "flag" else []
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "toolbox", "kernel-python", *more],
        env={"PATH": "/nowhere", **({} if more else {"TOOLBOX_KERNEL_PYTHON": bare})},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{bare}\n"
    assert done.stderr == f"kernels: {bare} (configured); code-run: {bare} (configured)\n"
