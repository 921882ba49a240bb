"""Control planes of a namespace: the kubernetes driver in this process, as it runs in a pod."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tests.controlplane.conftest import Plane, plane_on
from tests.kubernetes.cluster import Namespace

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def kubernetes_plane(state_dir: Path, namespace: Namespace, **more: str) -> AsyncIterator[Plane]:
    """Run a control plane of a namespace; its sandboxes stay when it ends."""
    options = {"driver": "kubernetes", "kubeconfig": str(namespace.cluster.kubeconfig), "namespace": namespace.name}
    async with plane_on(state_dir, **options, **more) as plane:
        yield plane


async def in_thread(call: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Ask kubectl, or wait for something of it, while the control plane of this process goes on."""
    return await asyncio.to_thread(call, *args, **options)


def by_id(namespace: Namespace, kind: str, sandbox: Mapping[str, Any]) -> list[Any]:
    """Return the objects of a kind that are labelled with a sandbox's id."""
    listed = namespace.kubectl("get", kind, f"--selector=sandbox-toolbox.dev/sandbox={sandbox['id']}", "--output=json")
    found: list[Any] = json.loads(listed)["items"]
    return found


def pod_of(namespace: Namespace, sandbox: Mapping[str, Any]) -> Any:
    """Return the one pod of a sandbox."""
    [pod] = by_id(namespace, "pod", sandbox)
    return pod
