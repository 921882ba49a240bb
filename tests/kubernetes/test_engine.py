"""What the engine makes of our template, before any driver: sandboxes, their homes, claims on a warm pool."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tests.kubernetes.cluster import Namespace, eventually

READY = "condition=Ready"
PORT = 2280


def blueprint(namespace: Namespace) -> dict[str, Any]:
    """Return the part of a Sandbox that its template has too."""
    spec = namespace.get("sandboxtemplate", "sandbox-toolbox")["spec"]
    return {name: spec[name] for name in ("podTemplate", "volumeClaimTemplates")}


def make_sandbox(namespace: Namespace, **spec: object) -> str:
    """Make a copy of the template and return its name."""
    name = f"sandbox-{uuid4().hex[:8]}"
    namespace.apply(
        {
            "apiVersion": "agents.x-k8s.io/v1beta1",
            "kind": "Sandbox",
            "metadata": {"name": name},
            "spec": blueprint(namespace) | spec,
        }
    )
    return name


@pytest.fixture
def sandbox(namespace: Namespace) -> Iterator[str]:
    """Make a sandbox that is ready and return its name."""
    name = make_sandbox(namespace)
    namespace.wait("sandbox", name, until=READY)
    yield name
    namespace.kubectl("delete", "sandbox", name, "--ignore-not-found", "--wait=false")


async def call(ip: str, path: str, body: object, token: str = "") -> tuple[int, Any]:
    """Send a request to the daemon of a pod and return the status and the answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(f"http://{ip}:{PORT}", headers=headers) as http:
        async with http.post(path, json=body) as response:
            return response.status, await response.json()


async def execute(ip: str, command: str, token: str) -> str:
    """Run a command in a pod and return what it prints; it must succeed."""
    status, answer = await call(ip, "/process/execute", {"command": command}, token)
    assert (status, answer.get("exitCode")) == (200, 0), answer
    result: str = answer["result"]
    return result


def pod_ip(namespace: Namespace, sandbox: str) -> str:
    """Return where a sandbox's daemon listens."""
    (ip,) = namespace.get("sandbox", sandbox)["status"]["podIPs"]
    return str(ip)


def volume_of(namespace: Namespace, sandbox: str) -> tuple[str, Path]:
    """Return the volume of a sandbox's home: its name, and its directory on this machine."""
    volume = namespace.get("pvc", f"home-{sandbox}")["spec"]["volumeName"]
    return volume, Path(namespace.get("pv", volume)["spec"]["hostPath"]["path"])


async def test_a_daemon_waits_for_its_token(namespace: Namespace, sandbox: str) -> None:
    ip = pod_ip(namespace, sandbox)
    assert (await call(ip, "/process/execute", {"command": "true"}))[0] == 401
    assert (await call(ip, "/init", {"token": "first"}))[0] == 200
    assert await execute(ip, "id -u; pwd; touch kept; touch /etc/x 2>&1 || true", "first") == (
        "1000\n/home/sandbox\ntouch: cannot touch '/etc/x': Read-only file system\n"
    )
    assert (await call(ip, "/process/execute", {"command": "true"}, "second"))[0] == 401


async def test_a_suspended_one_keeps_its_home(namespace: Namespace, sandbox: str) -> None:
    ip = pod_ip(namespace, sandbox)
    await call(ip, "/init", {"token": "first"})
    await execute(ip, "echo kept > file; echo lost > /tmp/file", "first")
    namespace.kubectl("patch", "sandbox", sandbox, "--type=merge", '--patch={"spec":{"operatingMode":"Suspended"}}')
    namespace.wait("sandbox", sandbox, until="condition=Suspended")
    assert sandbox not in namespace.names("pod")
    namespace.kubectl("patch", "sandbox", sandbox, "--type=merge", '--patch={"spec":{"operatingMode":"Running"}}')
    namespace.wait("sandbox", sandbox, until=READY)
    ip = pod_ip(namespace, sandbox)
    # It is another process, which knows nothing of the token.
    assert (await call(ip, "/process/execute", {"command": "true"}, "first"))[0] == 401
    await call(ip, "/init", {"token": "second"})
    assert await execute(ip, "cat file; ls /tmp", "second") == "kept\n"


def test_delete_leaves_nothing(namespace: Namespace) -> None:
    sandbox = make_sandbox(namespace)
    namespace.wait("sandbox", sandbox, until=READY)
    volume, directory = volume_of(namespace, sandbox)
    assert directory.is_dir()
    namespace.delete("sandbox", sandbox)
    namespace.cluster.wait_until_gone("--namespace", namespace.name, f"pod/{sandbox}", f"pvc/home-{sandbox}")
    namespace.cluster.wait_until_gone(f"pv/{volume}")
    assert not directory.exists()


async def test_a_claim_takes_a_warm_one(namespace: Namespace) -> None:
    group = "extensions.agents.x-k8s.io/v1beta1"
    pool = {"replicas": 1, "sandboxTemplateRef": {"name": "sandbox-toolbox"}}
    namespace.apply({"apiVersion": group, "kind": "SandboxWarmPool", "metadata": {"name": "warm"}, "spec": pool})
    namespace.wait("sandboxwarmpool", "warm", until="jsonpath={.status.readyReplicas}=1")
    (warm,) = namespace.names("sandbox", "--selector=agents.x-k8s.io/warm-pool-sandbox")
    claim = {"warmPoolRef": {"name": "warm"}}
    namespace.apply({"apiVersion": group, "kind": "SandboxClaim", "metadata": {"name": "claim"}, "spec": claim})
    namespace.wait("sandboxclaim", "claim", until=READY)
    taken = namespace.get("sandboxclaim", "claim")["status"]["sandbox"]
    assert taken["name"] == warm
    assert (await call(taken["podIPs"][0], "/init", {"token": "first"}))[0] == 200
    assert await execute(taken["podIPs"][0], "echo here", "first") == "here\n"
    namespace.delete("sandboxwarmpool", "warm")
    namespace.delete("sandboxclaim", "claim")
    eventually(lambda: warm not in namespace.names("sandbox") + namespace.names("pod"))
