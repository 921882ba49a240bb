"""Plays agent-sandbox, the scheduler and a kubelet: each Sandbox gets a pod at once, which says that it is ready.

And plays the daemons in those pods: one server at every address of 127.0.0.0/8.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from controlplane.cluster.api import Cluster
from controlplane.cluster.kinds import POD, SANDBOX, Sandbox
from controlplane.cluster.mirror import Mirror
from controlplane.cluster.names import PORT
from toolbox.errors import ToolboxError
from toolbox.lifetime import TaskSet

_AT_ONCE = 32


class Pods:
    """Makes pods for Sandboxes, and takes them away."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._count = 0
        self._tasks = TaskSet()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._modes: dict[str, str] = {}

    def changed(self, name: str, _: Sandbox | None, after: Sandbox | None) -> None:
        """Bring a pod to where its Sandbox wants it (called by the watch)."""
        mode = after.spec.operating_mode if after is not None else "Gone"
        if self._modes.get(name) == mode:
            return
        self._modes[name] = mode
        self._tasks.start(self._bring(name, after, mode), f"pod of {name}")

    async def _bring(self, name: str, sandbox: Sandbox | None, mode: str) -> None:
        async with self._turns:
            try:
                if mode == "Running" and sandbox is not None:
                    await self._make(name, sandbox)
                else:
                    await self._cluster.delete(POD, name, grace_seconds=0)
                    if mode == "Suspended":
                        await self._tell(name, "False", "SandboxSuspended", [])
            except ToolboxError as error:
                print(name, error.message, flush=True)
        if mode == "Gone":
            self._modes.pop(name, None)

    async def _make(self, name: str, sandbox: Sandbox) -> None:
        self._count += 1
        address = f"127.1.{self._count >> 8 & 255}.{self._count & 255}"
        labels = {"sandbox-toolbox.dev/workload": "sandbox"}
        owner = {
            "apiVersion": SANDBOX.api_version,
            "kind": SANDBOX.name,
            "name": name,
            "uid": sandbox.metadata.uid,
            "controller": True,
        }
        spec = {"nodeName": "none", "containers": [{"name": "toolbox", "image": "none"}]}
        metadata = {"name": name, "labels": labels, "ownerReferences": [owner]}
        await self._cluster.create(POD, {"metadata": metadata, "spec": spec})
        ready = [{"type": "Ready", "status": "True"}]
        await self._status(POD, name, {"phase": "Running", "conditions": ready, "podIP": address})
        await self._tell(name, "True", "DependenciesReady", [address])

    async def _tell(self, name: str, status: str, reason: str, ips: list[str]) -> None:
        condition = {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        await self._status(SANDBOX, name, {"conditions": [condition], "podIPs": ips})

    async def _status(self, kind: Any, name: str, status: dict[str, Any]) -> None:
        path = f"{kind.path(self._cluster.namespace, name)}/status"
        await self._cluster.request("PATCH", path, body={"status": status}, content="application/merge-patch+json")


async def _answer(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"version": "v0.0.0", "message": "", "status": "ready", "env": True})


async def serve(kubeconfig: Path, namespace: str) -> None:
    """Play until the process ends."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", PORT, backlog=4096).start()
    async with Cluster.open(kubeconfig, namespace) as cluster:
        pods = Pods(cluster)
        async with Mirror(cluster, SANDBOX, "", pods.changed):
            print("ready", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("namespace")
    given = parser.parse_args()
    asyncio.run(serve(given.kubeconfig, given.namespace))
