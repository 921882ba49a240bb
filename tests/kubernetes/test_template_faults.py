"""Templates and warm pools that are not there, have no home, or make nothing that starts."""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest

from tests.controlplane.conftest import Plane
from tests.kubernetes.cluster import Namespace
from tests.kubernetes.replicas import Replica, clients, replicas
from tests.kubernetes.test_sandbox_faults import refusal


class Planes(NamedTuple):
    """A client of a control plane for each template."""

    unknown: Plane
    homeless: Plane
    broken: Plane


@pytest.fixture(scope="module")
def three(
    namespace: Namespace, template: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Replica]]:
    """Run a control plane for each template."""
    homeless, broken = copy.deepcopy(template), copy.deepcopy(template)
    homeless["metadata"]["name"], broken["metadata"]["name"] = "homeless", "broken"
    del homeless["spec"]["volumeClaimTemplates"]
    homeless["spec"]["podTemplate"]["spec"]["volumes"].append({"name": "home", "emptyDir": {}})
    broken["spec"]["podTemplate"]["spec"]["containers"][0]["image"] = "localhost/none:1"
    for each in (homeless, broken):
        namespace.apply(each)
    root = tmp_path_factory.mktemp("replicas")
    with (
        replicas(namespace, root / "unknown", 1, template="unknown") as unknown,
        replicas(namespace, root / "homeless", 1, template="homeless") as without,
        replicas(namespace, root / "broken", 1, template="broken", **{"start-seconds": "40"}) as hopeless,
    ):
        yield unknown + without + hopeless


@pytest.fixture
async def planes(three: list[Replica]) -> AsyncIterator[Planes]:
    """Return a client of each."""
    async with clients(three) as found:
        yield Planes(*found)


async def test_a_template_that_is_not_there(planes: Planes, namespace: Namespace) -> None:
    reason = await refusal(planes.unknown, 500)
    assert reason == f"there is no SandboxTemplate unknown in namespace {namespace.name}"


async def test_without_a_home_nothing_outlives_a_stop(planes: Planes) -> None:
    box = await planes.homeless.create()
    assert box["autoDeleteInterval"] == 0
    assert await planes.homeless.execute(box, "echo here > file; cat file") == "here"
    await planes.homeless.call("POST", "/sandbox", 400, json={"autoDeleteInterval": 5})
    await planes.homeless.call("POST", f"/sandbox/{box['id']}/stop?force=true")
    await planes.homeless.call("GET", f"/sandbox/{box['id']}", 404)


async def test_an_image_that_is_not_there(planes: Planes, namespace: Namespace) -> None:
    assert "ErrImageNeverPull" in await refusal(planes.broken, 500, name="none")
    assert namespace.names("sandbox") == []
    # Its name is free.
    assert "ErrImageNeverPull" in await refusal(planes.broken, 500, name="none")


async def test_a_claim_that_is_never_served(planes: Planes, namespace: Namespace) -> None:
    pool = {
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1",
        "kind": "SandboxWarmPool",
        "metadata": {"name": "broken"},
        "spec": {"replicas": 1, "sandboxTemplateRef": {"name": "broken"}},
    }
    namespace.apply(pool)
    async with asyncio.timeout(60):
        while not namespace.names("sandbox"):
            await asyncio.sleep(0.1)
    assert "does not start" in (reason := await refusal(planes.broken, 500)) or "not ready" in reason, reason
    assert namespace.names("sandboxclaim") == []
    # The pool goes while a claim waits for it.
    waiting = asyncio.create_task(refusal(planes.broken, 500))
    async with asyncio.timeout(60):
        while not waiting.done() and not namespace.names("sandboxclaim"):
            await asyncio.sleep(0.02)
    namespace.delete("sandboxwarmpool", "broken")
    assert await waiting
    assert namespace.names("sandboxclaim") == []
