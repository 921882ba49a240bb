"""Warm pools in a cluster: agent-sandbox keeps them full, here they are only described."""

import msgspec

from controlplane.cluster.api import Cluster
from controlplane.cluster.kinds import POOL, TEMPLATE
from controlplane.cluster.names import MANAGED, POOL_ID, SANDBOX_ID
from controlplane.drivers.kubernetes.manifests import sandbox_spec
from controlplane.drivers.kubernetes.templates import ORGANIZATION, Templates
from controlplane.pools import Pool, Pools, check_size, new_pool, specify
from controlplane.sandboxes import Sandboxes, launch_of
from controlplane.snapshots import Snapshots
from controlplane.store import Collection
from controlplane.wishes import DEFAULT_TARGET
from toolbox.errors import Conflict, NotFound, ToolboxError
from toolbox.web.middleware import timestamp


class ClusterPools(Pools):
    """Each pool is a SandboxWarmPool with a SandboxTemplate of its own, both named `pool-<id>`."""

    def __init__(self, cluster: Cluster, templates: Templates, sandboxes: Sandboxes, snapshots: Snapshots) -> None:
        self._cluster = cluster
        self._templates = templates
        self._sandboxes = sandboxes
        self._snapshots = snapshots
        self._known: Collection[Pool] = sandboxes.steps.store.collection("warm_pool", Pool)

    async def create(self, snapshot: str, size: int, target: str | None) -> Pool:
        """Make a pool. Raises `NotFound`, `BadRequest`, `Conflict` when there is one, `DriverError`."""
        check_size(size, least=1)
        wanted = await specify(self._sandboxes, self._snapshots, snapshot, target or DEFAULT_TARGET)
        pool = new_pool(wanted, size)
        try:
            await self._known.add(pool)
        except Conflict:
            raise Conflict(f"there is a warm pool of {pool.snapshot} in {pool.target} already") from None
        spec = sandbox_spec(self._templates.default, launch_of(wanted))
        del spec["operatingMode"]
        # What its sandboxes are called is known when they are claimed.
        del spec["podTemplate"]["metadata"]["labels"][SANDBOX_ID]
        metadata = {
            "name": _name(pool.id),
            "labels": {**MANAGED, POOL_ID: pool.id},
            "annotations": {ORGANIZATION: pool.organization_id},
        }
        replicas = {"replicas": size, "sandboxTemplateRef": {"name": _name(pool.id)}}
        try:
            template = {**spec, "networkPolicyManagement": "Unmanaged"}
            self._templates.put(await self._cluster.create(TEMPLATE, {"metadata": metadata, "spec": template}))
            self._templates.pools.put(await self._cluster.create(POOL, {"metadata": metadata, "spec": replicas}))
        except ToolboxError:
            await self.delete(pool.id)
            raise
        return pool

    async def all(self) -> list[Pool]:
        """Return the pools that were made here, newest first; operators may have made others."""
        return await self._known.all()

    def status(self, pool: Pool) -> tuple[int, str | None]:
        """Return how many sandboxes of a pool are ready, and what is wrong with it."""
        found = self._templates.pools.get(_name(pool.id))
        if found is None:
            return 0, "its SandboxWarmPool is gone"
        return found.status.ready_replicas, None

    async def resize(self, pool_id: str, size: int) -> Pool:
        """Change how many sandboxes are kept ready; 0 empties the pool. Raises `NotFound`, `BadRequest`."""
        check_size(size, least=0)
        found = await self._get(pool_id)
        self._templates.pools.put(await self._cluster.patch(POOL, _name(found.id), {"spec": {"replicas": size}}))
        changed = msgspec.structs.replace(found, size=size, updated_at=timestamp())
        await self._known.save(changed)
        return changed

    async def delete(self, pool_id: str) -> None:
        """Remove a pool with what waits in it. Raises `NotFound`."""
        found = await self._get(pool_id)
        await self._cluster.delete(POOL, _name(found.id))
        await self._cluster.delete(TEMPLATE, _name(found.id))
        await self._known.remove(found.id)

    async def _get(self, pool_id: str) -> Pool:
        found = await self._known.find(pool_id)
        if found is None:
            raise NotFound(f"warm pool not found: {pool_id}")
        return found


def _name(pool_id: str) -> str:
    return f"pool-{pool_id}"
