"""Puts together what a control plane in a cluster stands on."""

import asyncio
import time
from contextlib import AsyncExitStack

from controlplane.cluster.api import Cluster
from controlplane.cluster.documents import Documents
from controlplane.cluster.fleet import Fleet
from controlplane.cluster.history import ClusterHistory
from controlplane.cluster.keys import shared_keys
from controlplane.cluster.kinds import CLAIM, POOL, SANDBOX, TEMPLATE
from controlplane.cluster.leases import Leases
from controlplane.cluster.repository import ClusterRepository
from controlplane.cluster.takeover import Takeover
from controlplane.drivers.kubernetes.driver import KubernetesDriver
from controlplane.drivers.kubernetes.pools import ClusterPools
from controlplane.drivers.kubernetes.templates import Templates
from controlplane.grants import Grants
from controlplane.ground import Ground
from controlplane.keys import SandboxKeys
from controlplane.pools import Pools
from controlplane.sandboxes import Sandboxes
from controlplane.snapshots import Snapshots
from controlplane.volumes import Volumes
from toolbox.config import UpConfig
from toolbox.errors import Unavailable

_START_SECONDS = 30.0


async def _answers(cluster: Cluster) -> None:
    """Return once the API server answers: it may be starting too. Raises `ToolboxError` when it does not in time."""
    for each in (SANDBOX, CLAIM, POOL, TEMPLATE):
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                await cluster.request("GET", each.path(cluster.namespace), query=[("limit", "1")])
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)
            else:
                break


async def open_cluster(stack: AsyncExitStack, config: UpConfig, api_key: str | None) -> Ground:
    """Find the cluster and see what is there. Raises `ConfigError`, `ToolboxError`."""
    cluster = await stack.enter_async_context(Cluster.open(config.kubeconfig, config.namespace))
    await _answers(cluster)
    keys = await shared_keys(cluster)
    leases = await stack.enter_async_context(Leases(cluster))
    documents = await stack.enter_async_context(Documents(cluster))
    templates = await stack.enter_async_context(Templates(cluster, config.template))
    fleet = await stack.enter_async_context(Fleet(cluster))
    driver = KubernetesDriver(
        cluster, fleet, templates, leases, SandboxKeys(keys.sandbox_secret), start_seconds=config.start_seconds
    )
    store = await stack.enter_async_context(ClusterRepository(cluster, fleet, documents, leases, driver))
    await stack.enter_async_context(driver)

    async def pools(_: AsyncExitStack, sandboxes: Sandboxes, snapshots: Snapshots, volumes: Volumes) -> Pools:
        takeover = Takeover(fleet, leases, store, driver, sandboxes, volumes, Grants(store))
        sandboxes.steps.tasks.start(takeover.watch(), "what is left half done")
        leases.lead(snapshots.go_on, "snapshots left half done")
        return ClusterPools(cluster, templates, sandboxes, snapshots)

    return Ground(
        store=store,
        history=ClusterHistory(),
        driver=driver,
        leadership=leases,
        api_key=api_key or keys.api_key,
        secret=keys.sandbox_secret,
        vault_key=keys.vault_key,
        pools=pools,
    )
