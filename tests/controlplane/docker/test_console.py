"""`toolboxd ps | logs | gc` with containers."""

import pytest

from tests.controlplane.conftest import Plane
from tests.controlplane.docker.conftest import Owned, container_name
from tests.controlplane.test_console import toolboxd
from tests.image.conftest import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.usefixtures("environ")]


async def test_what_people_ask(plane: Plane, owned: Owned, engine: Engine) -> None:
    state = plane.state_dir / "controlplane"
    sandbox = await plane.create(name="box")
    assert (await toolboxd(plane.state_dir, "ps"))[0].splitlines()[1].split()[:3] == ["box", "started", "default"]
    assert "Starting toolbox server" in (await toolboxd(plane.state_dir, "logs", "box"))[0]

    # What a crash at a bad moment can leave: a directory, and a container.
    (state / "sandboxes/directory").mkdir()
    labels = ["--label", f"sandbox-toolbox.owner={container_name(state, '').split('-')[1]}"]
    labels += ["--label", "sandbox-toolbox.sandbox=container"]
    image = engine.call("inspect", "--format", "{{.Image}}", container_name(state, sandbox["id"]))
    engine.call("create", *labels, "--name", container_name(state, "container"), image, "true")
    for options in (["--dry-run"], []):
        assert (await toolboxd(plane.state_dir, "gc", *options))[0] == "sandbox container\nsandbox directory\n"
    assert (await toolboxd(plane.state_dir, "gc"))[0] == ""
    assert len(owned.find(state)["containers"]) == 1
    assert await plane.execute(sandbox, "echo kept") == "kept"
    assert (await toolboxd(plane.state_dir, "stop", "--all"))[0] == "box\n"
    assert "Starting toolbox server" in (await toolboxd(plane.state_dir, "logs", "box"))[0]
