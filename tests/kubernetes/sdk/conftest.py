"""A control plane with the kubernetes driver for the SDKs' tests, which are those of `tests/sdk`."""

import os
from collections.abc import Coroutine, Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.git.http_server import GitServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.conftest import sharing
from tests.sdk.clients import Sdk
from tests.sdk.conftest import (
    Server,
    box,
    client,
    folder,
    fs,
    git_remote,
    nothing_blocks,
    nothing_left,
    remotes,
    serving,
)

__all__ = ["box", "folder", "fs", "git_remote", "nothing_blocks", "nothing_left"]

collect_ignore_glob = [] if os.environ.get("TEST_KUBERNETES") else ["test_*.py"]


@pytest.fixture(scope="session")
def server(cluster: Cluster, template: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run `toolboxd up` for a namespace of its own."""
    with cluster.namespace(f"test-sdk-{uuid4().hex[:8]}", template) as namespace:
        place = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace.name]
        with serving(tmp_path_factory.mktemp("toolboxd"), "--driver", "kubernetes", *place) as running:
            yield running
        assert namespace.names("sandboxes") == [], "sandboxes left behind"


@pytest.fixture(scope="session", params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, server: Server, cluster: Cluster) -> Iterator[Sdk]:
    """Return a client of either kind; fixtures that use it share the cluster as tests do."""
    with client(request.param, server) as made:

        def run(scenario: Coroutine[Any, Any, Any]) -> Any:
            with sharing(cluster):
                return made.run(scenario)

        yield Sdk(made.name, made.daytona, run)


@pytest.fixture(scope="session")
def git_server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """Serve repositories where pods reach this machine."""
    with remotes(tmp_path_factory.mktemp("remotes"), host=cluster.machine) as running:
        yield running


@pytest.fixture(scope="session")
def path_with_node() -> str:
    """Return the PATH of the sandboxes' image, which has language servers and a Node of its own."""
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
