"""A cluster, and a namespace of it for each test module, with the template that sandboxes are made of."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.conftest import ALLOWED_SKIP
from tests.image.conftest import NAME, BuildStage, build_stage, engine
from tests.kubernetes.cluster import Cluster, Namespace, Unavailable, is_running

__all__ = ["build_stage", "engine"]

HERE = Path(__file__).parent
VOLUMES = {"storage-class": "toolbox-test", "size": "1Gi"}
"""What volumes of the API are made as."""
MANIFESTS = HERE.parents[1] / "deploy/kubernetes/sandbox-toolbox.yaml"
# The programs of the cluster take minutes to build: not with all other tests, but by `make test-kubernetes`.
collect_ignore_glob = [] if os.environ.get("TEST_KUBERNETES") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test a time of its own: whichever is the first may have to wait for a cluster and an image."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(300, func_only=True), append=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return the cluster that runs, which stays, or start one; skip where a machine cannot have it."""
    ours = not is_running()
    # Test processes beside this one may still use it when this one ends.
    in_parallel = "PYTEST_XDIST_WORKER" in os.environ
    try:
        found = Cluster.start(owner=os.getppid() if in_parallel else os.getpid())
    except Unavailable as error:
        pytest.skip(f"{ALLOWED_SKIP}{error}")
    yield found
    if ours and not in_parallel:
        found.stop()


@pytest.fixture(scope="session")
def image(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """Return the name of the sandboxes' image in the node: $TEST_KUBERNETES_IMAGE, or built of this source."""
    given = os.environ.get("TEST_KUBERNETES_IMAGE")
    if given is None:
        build: BuildStage = request.getfixturevalue("build_stage")
        build("sandbox")
    name = given or f"{NAME}:sandbox"
    cluster.load(name)
    return name


@pytest.fixture(scope="session")
def template(image: str) -> dict[str, Any]:
    """Return what sandboxes are copies of: as it is deployed, with the image, storage and scale of these tests."""
    objects = yaml.safe_load_all(MANIFESTS.read_text())
    template: dict[str, Any] = next(each for each in objects if each and each["kind"] == "SandboxTemplate")
    del template["metadata"]["namespace"]
    container = template["spec"]["podTemplate"]["spec"]["containers"][0]
    container |= {"image": image, "imagePullPolicy": "Never"}
    # The node has two cores, and is to have room for many.
    container["resources"]["requests"] = {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "64Mi"}
    (home,) = template["spec"]["volumeClaimTemplates"]
    home["spec"]["storageClassName"] = "toolbox-test"
    annotations = template["metadata"].setdefault("annotations", {})
    annotations |= {f"sandbox-toolbox.dev/volume-{name}": value for name, value in VOLUMES.items()}
    return template


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, template: dict[str, Any], request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """Make a namespace for the tests of a module, with the template in it."""
    module = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    with cluster.namespace(f"test-{module}-{uuid4().hex[:8]}", template) as made:
        yield made


@pytest.fixture(autouse=True)
def undisturbed(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a disruptive test have the cluster to itself, and all others share it."""
    with sharing(cluster, alone=request.node.get_closest_marker("disruptive") is not None):
        yield


@contextmanager
def sharing(cluster: Cluster, *, alone: bool = False) -> Iterator[None]:
    """Use the cluster while nobody disturbs it, or `alone`."""
    with (cluster.kubeconfig.parent / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
