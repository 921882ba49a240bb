"""Kernels of the workload user, and where there is no room."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import run_daemon
from tests.interpreter.client import create, run
from toolbox.config import ServeConfig

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="not possible here: needs root")


def nobody_may_run_this_python() -> bool:
    command = ["setpriv", "--reuid=65534", sys.executable, "-c", ""]
    return os.getuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not nobody_may_run_this_python(), reason="not possible here: nobody may not run this Python")
async def test_kernels_act_as_the_workload_user(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents):
        if "pytest" in str(above):
            above.chmod(0o755)
    config = serve_config(user="nobody", kernel_python=sys.executable)
    os.chown(config.work_dir, 65534, 65534)
    async with run_daemon(config) as daemon:
        async with daemon.http.post("/env", json={"set": {"HOME": str(config.work_dir)}}) as response:
            assert response.status == 200
        code = "import getpass, os; print(getpass.getuser(), os.getuid(), os.getcwd()); open('mine', 'w').close()"
        assert (await run(daemon, code)).text() == f"nobody 65534 {config.work_dir}\n"
        context = await create(daemon, cwd="/")
        assert (await run(daemon, "open('/root/x')", context)).error["name"] == "PermissionError"
    assert (config.work_dir / "mine").stat().st_uid == 65534


async def test_a_full_disk(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    state = tmp_path / "small"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", state], check=True)
    try:
        async with run_daemon(serve_config(state_dir=str(state), spare_kernels="0")) as daemon:
            (state / "filler").write_bytes(b"")
            with (state / "filler").open("wb", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(4096))
                except OSError:
                    pass
            ran = await run(daemon, "1")
            assert ran.error["name"] == "KernelError"
            assert "no space left" in ran.error["value"].lower()
            (state / "filler").unlink()
            assert (await run(daemon, "1 + 1")).value() == "2"
    finally:
        subprocess.run(["umount", state], check=True)
