"""The images, built and run: the default command, the daemon alone, and the daemon in somebody else's image."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.image.conftest import NAME, Engine, StartContainer

# The first test of a machine may have to make the engine, the base image and all layers.
pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]

SERVE_READY = "Starting toolbox server on port "
STOP_SECONDS = 5
TOKEN = "a-token-of-this-test"
AS_ROOT: Sequence[str] = ()
AS_ANYBODY = ("--user", "12345:12345")
users = pytest.mark.parametrize("options", [AS_ROOT, AS_ANYBODY], ids=["root", "12345"])


@users
def test_sdk_drives_the_default_command(
    sandbox_image: str, start_container: StartContainer, options: Sequence[str]
) -> None:
    container = start_container(sandbox_image, options=options)
    container.line("export DAYTONA_API_URL=")
    api_key = container.line("export DAYTONA_API_KEY=")
    environ = {
        **os.environ,
        "DAYTONA_API_URL": f"http://127.0.0.1:{container.port}/api",
        "DAYTONA_API_KEY": api_key,
    }
    program = Path(__file__).with_name("use_sandbox.py")
    uid = "12345" if options == AS_ANYBODY else "0"
    done = subprocess.run([sys.executable, program, uid], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # One that still runs something ends with the container.
    authorized = {"Authorization": f"Bearer {api_key}"}
    status, sandbox = container.request("POST", "/api/sandbox", {}, authorized)
    assert status == 200, sandbox
    sleeping = {"command": "sleep 1000 > /dev/null 2>&1 &"}
    path = f"/toolbox/{sandbox['id']}/process/execute"
    assert container.request("POST", path, sleeping, authorized)[0] == 200
    assert container.terminate(STOP_SECONDS) == 0


@users
def test_serve_asks_for_the_token(sandbox_image: str, start_container: StartContainer, options: Sequence[str]) -> None:
    container = start_container(sandbox_image, "serve", options=[*options, "--env", f"TOOLBOX_TOKEN={TOKEN}"])
    container.line(SERVE_READY)
    authorized = {"Authorization": f"Bearer {TOKEN}"}
    assert container.request("GET", "/version")[0] == 401
    assert container.request("GET", "/version", headers={"Authorization": "Bearer another"})[0] == 401
    assert container.request("GET", "/version", headers=authorized)[0] == 200
    command = {"command": "pwd; touch here; env | grep -c TOOLBOX_TOKEN; sleep 1000 > /dev/null 2>&1 &"}
    status, answer = container.request("POST", "/process/execute", command, authorized)
    assert (status, answer["result"]) == (200, "/workspace\n0\n")
    assert container.terminate(STOP_SECONDS) == 0


def test_serve_without_a_token_makes_one(sandbox_image: str, start_container: StartContainer) -> None:
    container = start_container(sandbox_image, "serve")
    token = container.line("TOOLBOX_TOKEN=")
    container.line(SERVE_READY)
    assert container.request("GET", "/version")[0] == 401
    assert container.request("GET", "/version", headers={"Authorization": f"Bearer {token}"})[0] == 200


def test_an_orphan_is_reaped_by_the_first_process(sandbox_image: str, start_container: StartContainer) -> None:
    container = start_container(sandbox_image, "serve", options=["--env", "TOOLBOX_AUTH=none"])
    container.line(SERVE_READY)

    def execute(command: str) -> str:
        status, answer = container.request("POST", "/process/execute", {"command": command})
        assert status == 200, answer
        return str(answer["result"])

    execute("for n in 1 2 3 4 5; do setsid -f sh -c 'exit 7'; done")
    assert "toolboxd" in execute("cat /proc/1/cmdline")
    waits = "for n in $(seq 50); do ps -eo stat= | grep -q Z || exit 0; sleep 0.1; done; ps -ef"
    assert execute(waits) == ""


def test_daemon_bakes_into_another_image(
    engine: Engine, daemon_image: str, start_container: StartContainer, tmp_path: Path
) -> None:
    recipe = f"""
        FROM debian:bookworm-slim
        COPY --from={daemon_image} /opt/sandbox-toolbox /opt/sandbox-toolbox
        ENTRYPOINT ["/opt/sandbox-toolbox/bin/toolboxd", "serve", "--host", "0.0.0.0"]
    """
    image = engine.build("--file", "-", "--tag", f"{NAME}:baked", str(tmp_path), text=recipe)
    container = start_container(image, options=["--env", f"TOOLBOX_TOKEN={TOKEN}"])
    container.line(SERVE_READY)
    command = {"command": "command -v python3 || echo no Python of its own"}
    status, answer = container.request("POST", "/process/execute", command, {"Authorization": f"Bearer {TOKEN}"})
    assert (status, answer["result"]) == (200, "no Python of its own\n")
    assert container.terminate(STOP_SECONDS) == 0


def test_sandbox_image_has_an_unprivileged_user(engine: Engine, sandbox_image: str) -> None:
    run = ("run", "--rm", "--pull=never", "--network=none", "--entrypoint=sh", sandbox_image, "-c")
    assert engine.call(*run, "id -u; id -u sandbox; stat -c %U ~sandbox").split() == ["0", "1000", "sandbox"]
