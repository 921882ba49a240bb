"""The cluster of one node that tests run on, a namespace of it, and what can go wrong with both."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "engines/kubernetes/cluster"
NODE = "node"
WAIT_SECONDS = 120
"""Within these everything has to happen, on a machine that is busy with others too."""


class Unavailable(Exception):
    """This machine cannot have a cluster; the message says why."""


_UNAVAILABLE = 75


def call_script(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run `cluster` and return what it prints. Raises `Unavailable`, `AssertionError` when it fails."""
    environment = {**os.environ, "PYTHON": sys.executable, **(env or {})}
    done = subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode == _UNAVAILABLE:
        raise Unavailable(done.stderr.strip().rpartition("\n")[2])
    assert done.returncode == 0, f"cluster {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def is_running() -> bool:
    """Tell whether there is a cluster already."""
    return subprocess.run([SCRIPT, "running"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    kubeconfig: Path
    kubectl_program: Path
    machine: str
    """Address by which pods reach this machine."""

    @classmethod
    def start(cls, *, owner: int) -> "Cluster":
        """Start it, where it does not run; then it ends when the process `owner` does. Raises `Unavailable`."""
        found = dict(line.split("=", 1) for line in call_script("up", "--owner", str(owner)).splitlines())
        return cls(Path(found["KUBECONFIG"]), Path(found["KUBECTL"]), found["MACHINE"])

    def stop(self) -> None:
        """End it, with everything in it."""
        call_script("down")

    def load(self, image: str) -> None:
        """Give the node an image of this machine's container engine."""
        call_script("load", image)

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """Run kubectl with `text` on its stdin and return what it prints; it must succeed."""
        done = self.try_kubectl(*arguments, text=text)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_kubectl(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """As `kubectl`, but it may fail."""
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        command: list[str | Path] = [self.kubectl_program, *arguments]
        return subprocess.run(command, input=text, env=env, capture_output=True, text=True, check=False)

    @contextmanager
    def namespace(self, name: str, template: Sequence[str]) -> Iterator["Namespace"]:
        """Make a namespace with the given manifests in it, and delete it without waiting for its end."""
        self.kubectl("create", "namespace", name)
        try:
            namespace = Namespace(self, name)
            for manifest in template:
                namespace.apply(manifest)
            yield namespace
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")

    def wait_until_gone(self, *resource: str) -> None:
        """Return once the given objects (as kubectl names them) are gone."""
        self.kubectl("wait", "--for=delete", f"--timeout={WAIT_SECONDS}s", *resource)

    # What can go wrong, and does for all namespaces: a test that uses it has to be marked `disruptive`.

    @contextmanager
    def stopped(self, component: str) -> Iterator[None]:
        """Freeze a component (kubelet, kube-apiserver, agent-sandbox-controller, ...) for a while."""
        call_script("signal", "STOP", component)
        try:
            yield
        finally:
            call_script("signal", "CONT", component)

    @contextmanager
    def killed(self, component: str) -> Iterator[None]:
        """Do without a component for a while: it is killed, and started again in the end."""
        call_script("signal", "KILL", component)
        try:
            yield
        finally:
            call_script("start", component)
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return once the API server is ready."""
        eventually(lambda: self.try_kubectl("get", "--raw", "/readyz").returncode == 0)

    @contextmanager
    def cordoned(self) -> Iterator[None]:
        """Let the node take no new pods for a while."""
        self.kubectl("cordon", NODE)
        try:
            yield
        finally:
            self.kubectl("uncordon", NODE)


@dataclass(frozen=True)
class Namespace:
    """A namespace of the cluster."""

    cluster: Cluster
    name: str

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """Run kubectl in this namespace and return what it prints; it must succeed."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, text=text)

    def apply(self, manifest: str | Mapping[str, Any]) -> None:
        """Make or change objects: YAML, or one as data."""
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        self.kubectl("apply", "-f", "-", text=text)

    def get(self, kind: str, name: str) -> Any:
        """Return an object as it is now."""
        return json.loads(self.kubectl("get", kind, name, "--output=json"))

    def names(self, kind: str, *selector: str) -> list[str]:
        """Return the names of all objects of a kind."""
        listed = self.kubectl("get", kind, "--output=name", *selector)
        return [line.partition("/")[2] for line in listed.splitlines()]

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and return once it is gone; what it owns may go later."""
        self.kubectl("delete", kind, name, f"--timeout={WAIT_SECONDS}s")

    def wait(self, kind: str, name: str, *, until: str) -> None:
        """Wait for what kubectl calls a condition: `condition=Ready`, `jsonpath={.status.phase}=Running`, `delete`."""
        self.kubectl("wait", f"{kind}/{name}", f"--for={until}", f"--timeout={WAIT_SECONDS}s")

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return reason and message of what has happened to an object."""
        selector = f"--field-selector=involvedObject.name={name}"
        found = json.loads(self.kubectl("get", "events", selector, "--output=json"))["items"]
        return [(each["reason"], each["message"]) for each in found]

    # What can go wrong, in this namespace alone.

    def evict(self, pod: str) -> None:
        """Have a pod evicted, as a drain of its node does."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.name}}
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        self.cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))

    @contextmanager
    def quota(self, **hard: str) -> Iterator[None]:
        """Let the namespace have no more than this for a while, such as pods="0"."""
        self.kubectl("create", "quota", "limit", "--hard=" + ",".join(f"{name}={most}" for name, most in hard.items()))
        try:
            # Until then it limits nothing.
            self.wait("resourcequota", "limit", until="jsonpath={.status.hard}")
            yield
        finally:
            self.delete("resourcequota", "limit")


def eventually(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.1)
