"""Control planes of a namespace: the kubernetes driver in this process, as it runs in a pod."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.controlplane.conftest import Plane, plane_on
from tests.kubernetes.cluster import Namespace


@asynccontextmanager
async def kubernetes_plane(state_dir: Path, namespace: Namespace, **more: str) -> AsyncIterator[Plane]:
    """Run a control plane of a namespace; its sandboxes stay when it ends."""
    options = {"driver": "kubernetes", "kubeconfig": str(namespace.cluster.kubeconfig), "namespace": namespace.name}
    async with plane_on(state_dir, **options, **more) as plane:
        yield plane
