"""The control plane killed at any moment, with containers: none is lost or leaked, nor an image or a volume."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.docker.conftest import DEBIAN, Owned, Service
from tests.controlplane.test_crashes import Crashes, run_machine

_RUNNING = ("running", "paused")


@pytest.mark.engine
@pytest.mark.timeout(600)  # many starts of a server, one after the other
def test_crashes(tmp_path: Path, service: Service, bundle: Path, owned: Owned) -> None:
    class Here(Crashes):
        directory = tmp_path
        options = ("--driver", "docker", "--docker-host", service.host, "--bundle", str(bundle), "--image", DEBIAN)

        def prepare(self, state: Path) -> None:
            owned.state_dirs.append(state)

        def check_driver(
            self, state: Path, there: AbstractSet[str], alive: AbstractSet[str], names: Mapping[str, AbstractSet[str]]
        ) -> None:
            assert {each.name for each in (state / "sandboxes").iterdir()} == there
            found = _containers(owned, state)
            assert found.keys() == there
            assert {each for each, where in found.items() if where in _RUNNING} == alive
            images = {f"snapshot-{each}" for each in names["snapshot"]}
            for place in (state / "sandboxes").iterdir():
                own = json.loads((place / "made.json").read_text())["own_image"]
                images |= {own.rpartition(":")[2]} if own is not None else set()
            assert _tags(owned, state) == images
            assert {each[-36:] for each in owned.find(state)["volumes"]} == names["volume"]

        def check_end(self) -> None:
            state = self.server.state / "controlplane"
            assert not [each for each in _containers(owned, state).values() if each in _RUNNING]

    run_machine(Here, examples=3, steps=8)


def _containers(owned: Owned, state: Path) -> dict[str, str]:
    """Return the states of containers, by their sandbox."""
    ids = owned.find(state)["containers"]
    found: list[Any] = json.loads(owned.engine.call("inspect", *ids)) if ids else []
    return {each["Config"]["Labels"]["sandbox-toolbox.sandbox"]: each["State"]["Status"] for each in found}


def _tags(owned: Owned, state: Path) -> set[str]:
    """Return what is left of the names of images, without their repository."""
    owner = owned.owner(state)
    return set(owned.engine.call("images", "--format", "{{.Tag}}", f"localhost/sandbox-toolbox-{owner}").split())
