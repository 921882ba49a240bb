"""The default image, built and run: the default command, the daemon alone, and what the image has."""

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.image.conftest import ROOT, STOP_SECONDS, Engine, StartContainer
from toolbox import __version__

# The first test of a machine may have to make the engine, the base image and all layers.
pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]

SERVE_READY = "Starting toolbox server on port "
TOKEN = "a-token-of-this-test"
AS_ROOT: Sequence[str] = ()
AS_ANYBODY = ("--user", "12345:12345")
users = pytest.mark.parametrize("options", [AS_ROOT, AS_ANYBODY], ids=["root", "12345"])


@users
def test_sdk_drives_the_default_command(
    sandbox_image: str, start_container: StartContainer, options: Sequence[str]
) -> None:
    container = start_container(sandbox_image, options=options)
    uid = "12345" if options == AS_ANYBODY else "0"
    command = [sys.executable, "-m", "tests.image.use_sandbox", uid]
    done = subprocess.run(command, cwd=ROOT, env=container.exports(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # One that still runs something ends with the container.
    authorized = {"Authorization": f"Bearer {container.exports()['DAYTONA_API_KEY']}"}
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


def test_the_first_process_reaps_orphans_and_is_healthy(
    engine: Engine, sandbox_image: str, start_container: StartContainer
) -> None:
    health = json.loads(engine.call("image", "inspect", "--format", "{{json .Config.Healthcheck}}", sandbox_image))
    kind, *check = health["Test"]
    assert kind == "CMD"
    options = ["--env", "TOOLBOX_AUTH=none", "--env", "TOOLBOX_PORT=2299"]
    container = start_container(sandbox_image, "serve", options=options)
    container.line(SERVE_READY)
    container.exec(*check)
    with pytest.raises(AssertionError, match="refused"):
        container.exec(*check, options=["--env", "TOOLBOX_PORT=2280"])

    def execute(command: str) -> str:
        body = json.dumps({"command": command})
        url = "http://127.0.0.1:2299/process/execute"
        answer = json.loads(container.exec("curl", "-sS", "-H", "Content-Type: application/json", "-d", body, url))
        return str(answer["result"])

    execute("for n in 1 2 3 4 5; do setsid -f sh -c 'exit 7'; done")
    assert "toolboxd" in execute("cat /proc/1/cmdline")
    waits = "for n in $(seq 50); do ps -eo stat= | grep -q Z || exit 0; sleep 0.1; done; ps -ef"
    assert execute(waits) == ""


def test_serve_works_as_the_user_of_the_image(sandbox_image: str, start_container: StartContainer) -> None:
    options = ["--env", f"TOOLBOX_TOKEN={TOKEN}", "--env", "TOOLBOX_USER=sandbox"]
    container = start_container(sandbox_image, "serve", options=options)
    container.line(SERVE_READY)

    def execute(command: str) -> str:
        body = {"command": command}
        status, answer = container.request("POST", "/process/execute", body, {"Authorization": f"Bearer {TOKEN}"})
        assert status == 200, answer
        return str(answer["result"])

    assert execute("id -un; echo $HOME; touch here && stat -c %U here") == "sandbox\n/home/sandbox\nsandbox\n"
    assert "password is required" in execute("sudo -n id")
    # Neither the daemon's memory nor its variables are the user's to read, and pip installs for him.
    assert execute("cat /proc/1/environ /proc/1/mem > /dev/null 2>&1; echo $?") == "1\n"
    assert "No matching distribution" in execute("pip install --no-index nothing-of-this-name 2>&1")


def test_what_the_image_has(engine: Engine, sandbox_image: str) -> None:
    # Without a network: nothing is fetched when it is first used.
    run = ("run", "--rm", "--pull=never", "--network=none")
    script = """
        id -u; id -u sandbox; stat -c %U ~sandbox
        echo 'enum A {B = 40}; const x: number = A.B + 2; console.log(x)' > x.ts
        ts-node x.ts && tsc --noEmit x.ts
        echo 'let s: string = 1' > y.ts
        tsc --noEmit y.ts
        echo $?
    """
    words = engine.call(*run, "--entrypoint=sh", sandbox_image, "-c", script).split()
    assert (words[:4], words[-1]) == (["0", "1000", "sandbox", "42"], "2"), words
    as_user = ("--user=sandbox", "--entrypoint=sudo")
    assert engine.call(*run, *as_user, "--group-add=sudo", sandbox_image, "-n", "id", "-u") == "0"
    with pytest.raises(AssertionError, match="password is required"):
        engine.call(*run, *as_user, sandbox_image, "-n", "id", "-u")


def test_bills_of_materials_and_labels(engine: Engine, sandbox_image: str) -> None:
    paths = {
        "/usr/local/share/sbom/debian": {"git", "libc6", "python3.11"},
        "/usr/local/share/sbom/python": {"numpy", "ipykernel"},
        "/usr/local/share/sbom/typescript": {"ts-node", "typescript"},
        "/opt/sandbox-toolbox/sbom/packages": {"aiohttp", "sandbox-toolbox"},
        "/opt/sandbox-toolbox/sbom/system": {"libc6", "libssl3"},
    }
    run = ("run", "--rm", "--pull=never", "--network=none", "--entrypoint=cat", sandbox_image)
    decoder, text = json.JSONDecoder(), engine.call(*run, *(f"{path}.cdx.json" for path in paths))
    for path, expected in paths.items():
        bill, end = decoder.raw_decode(text)
        text = text[end:].lstrip()
        assert bill["bomFormat"] == "CycloneDX", path
        assert expected <= {component["name"] for component in bill["components"]}, path
        assert all(component["version"] for component in bill["components"]), path
    labels = json.loads(engine.call("image", "inspect", "--format", "{{json .Config.Labels}}", sandbox_image))
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_every_image_says_the_version_of_the_daemon() -> None:
    dockerfile = ROOT.joinpath("Dockerfile").read_text()
    versions = [line for line in dockerfile.splitlines() if line.startswith("ARG VERSION=")]
    assert versions == [f"ARG VERSION={__version__} REVISION= CREATED="] * 3
