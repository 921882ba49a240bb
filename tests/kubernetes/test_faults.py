"""What can go wrong with a cluster, each by itself: what tests of the control plane have at hand."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.kubernetes.cluster import Namespace, eventually
from tests.kubernetes.test_engine import READY, blueprint, make_sandbox


@pytest.fixture
def sandbox(namespace: Namespace) -> Iterator[str]:
    """Begin to make a sandbox and return its name."""
    name = make_sandbox(namespace)
    yield name
    namespace.kubectl("delete", "sandbox", name, "--wait=false")


def has_event(namespace: Namespace, name: str, reason: str, message: str) -> None:
    """Wait until something has happened to an object."""
    eventually(lambda: any(event[0] == reason and message in event[1] for event in namespace.events(name)))


def uid(namespace: Namespace, pod: str) -> str:
    """Return what tells a pod from others of its name; empty when there is none."""
    return namespace.kubectl("get", "pod", pod, "--ignore-not-found", "--output=jsonpath={.metadata.uid}")


def test_a_pod_is_deleted_and_evicted(namespace: Namespace, sandbox: str) -> None:
    namespace.wait("sandbox", sandbox, until=READY)
    seen = {uid(namespace, sandbox)}
    for end in (partial(namespace.delete, "pod"), namespace.evict):
        end(sandbox)
        # The engine makes another.
        eventually(lambda: uid(namespace, sandbox) not in {"", *seen})
        namespace.wait("sandbox", sandbox, until=READY)
        seen.add(uid(namespace, sandbox))


def test_a_quota_is_used_up(namespace: Namespace) -> None:
    with namespace.quota(pods="0"):
        name = make_sandbox(namespace)
        namespace.wait(
            "sandbox", name, until="jsonpath={.status.conditions[?(@.type=='Ready')].reason}=ReconcilerError"
        )
        assert "exceeded quota" in str(namespace.get("sandbox", name)["status"]["conditions"])
        assert name not in namespace.names("pod")
        namespace.delete("sandbox", name)


def test_an_image_is_missing(namespace: Namespace) -> None:
    spec = blueprint(namespace)
    spec["podTemplate"]["spec"]["containers"][0]["image"] = "localhost/no-such-image:1"
    name = make_sandbox(namespace, **spec)
    has_event(namespace, name, "ErrImageNeverPull", "no-such-image")
    namespace.delete("sandbox", name)


@pytest.mark.disruptive
def test_the_node_takes_no_pods(namespace: Namespace) -> None:
    with namespace.cluster.cordoned():
        name = make_sandbox(namespace)
        has_event(namespace, name, "FailedScheduling", "unschedulable")
    namespace.wait("sandbox", name, until=READY)
    namespace.delete("sandbox", name)


@pytest.mark.disruptive
def test_the_kubelet_stops(namespace: Namespace) -> None:
    with namespace.cluster.stopped("kubelet"):
        name = make_sandbox(namespace)
        namespace.wait("pod", name, until="condition=PodScheduled")
        assert namespace.get("pod", name)["status"]["phase"] == "Pending"
    namespace.wait("sandbox", name, until=READY)
    namespace.delete("sandbox", name)


@pytest.mark.disruptive
def test_the_api_server_restarts(namespace: Namespace, sandbox: str) -> None:
    namespace.wait("sandbox", sandbox, until=READY)
    with namespace.cluster.killed("kube-apiserver"):
        assert "refused" in namespace.cluster.try_kubectl("get", "nodes").stderr
    assert sandbox in namespace.names("sandbox")
    # Everybody has found the way back: the engine, the scheduler, the provisioner, the kubelet.
    another = make_sandbox(namespace)
    namespace.wait("sandbox", another, until=READY)
    namespace.delete("sandbox", another)
