"""What a control plane stands on: this machine, or a cluster that several of them share."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from controlplane.drivers.base import Driver
from controlplane.drivers.process import ProcessDriver
from controlplane.grants import GrantRepository
from controlplane.history import History, SqliteHistory
from controlplane.keys import KEY_FILE, machine_key
from controlplane.pools import OwnPools, Pools
from controlplane.sandboxes import Sandboxes
from controlplane.snapshots import Snapshots
from controlplane.store import Repository, SqliteRepository, StoreError
from controlplane.volumes import Volumes
from toolbox.children.process import Children
from toolbox.config import ConfigError, UpConfig
from toolbox.errors import ToolboxError
from toolbox.lifetime import TaskSet

DRIVERS = ("process", "docker", "kubernetes")
Work = Callable[[], Coroutine[Any, Any, None]]


class Store(Repository, GrantRepository, Protocol):
    """Where everything is remembered."""


class Leadership(Protocol):
    """Sees to it that what only one control plane is to do is done by one."""

    def lead(self, work: Work, name: str) -> None:
        """Do `work` here as long as it is ours to do."""

    async def resign(self) -> None:
        """End all of it, for good: what it works with is about to go."""


class Alone(TaskSet):
    """The leadership of a control plane that has no other beside it."""

    def lead(self, work: Work, name: str) -> None:
        """Do `work` from now on."""
        self.start(work(), name)

    async def resign(self) -> None:
        """End all of it."""
        await self.close()


class Cast(Protocol):
    """Makes what depends on the ground and on the sandboxes."""

    async def __call__(
        self, stack: AsyncExitStack, /, sandboxes: Sandboxes, snapshots: Snapshots, volumes: Volumes
    ) -> Pools:
        """Return the warm pools. What else there is to be looked after is, from now on."""


@dataclass(frozen=True)
class Ground:
    """What everything else is put on."""

    store: Store
    history: History
    driver: Driver
    leadership: Leadership
    api_key: str
    secret: str
    """What the keys of sandboxes are derived from."""
    vault_key: str
    pools: Cast


async def open_ground(stack: AsyncExitStack, config: UpConfig, directory: Path, *, sole: bool) -> Ground:
    """Open what the driver of that name needs. Raises `ConfigError`."""
    if config.driver not in DRIVERS:
        raise ConfigError(f"driver: there is no {config.driver!r}, only {', '.join(DRIVERS[:-1])} and {DRIVERS[-1]}")
    key = config.resolve_token()
    if config.driver == DRIVERS[-1]:
        from controlplane.cluster.ground import open_cluster  # noqa: PLC0415 -- an optional extra

        try:
            return await open_cluster(stack, config, key)
        except ToolboxError as error:
            raise ConfigError(f"cannot use the cluster: {error.message}") from None
    try:
        store = await stack.enter_async_context(SqliteRepository(directory / "sandboxes.sqlite"))
    except (StoreError, sqlite3.Error) as error:
        raise ConfigError(f"cannot use the state directory {directory}: {error}") from None
    api_key = key if key is not None else await asyncio.to_thread(machine_key, directory / KEY_FILE)
    secret = await asyncio.to_thread(machine_key, directory / "sandbox-secret")
    vault_key = await asyncio.to_thread(machine_key, directory / "vault-key")
    children = await stack.enter_async_context(Children(sole=sole, lasting=True))
    driver = await stack.enter_async_context(_driver(config, directory, children))
    alone = await stack.enter_async_context(Alone())
    return Ground(
        store=store,
        history=SqliteHistory(store),
        driver=driver,
        leadership=alone,
        api_key=api_key,
        secret=secret,
        vault_key=vault_key,
        pools=_own_pools,
    )


def _driver(config: UpConfig, directory: Path, children: Children) -> Driver:
    """Return the driver of that name. Raises `ConfigError`."""
    if config.driver == ProcessDriver.name:
        return ProcessDriver(directory, children, config.passed_on)
    try:
        from controlplane.drivers.docker.driver import DockerDriver  # noqa: PLC0415 -- an optional extra
    except ModuleNotFoundError as error:
        raise ConfigError(f"the docker driver needs the extra sandbox-toolbox[docker]: {error}") from None
    return DockerDriver(directory, config.docker_host, image=config.image, bundle=config.bundle)


async def _own_pools(stack: AsyncExitStack, sandboxes: Sandboxes, snapshots: Snapshots, volumes: Volumes) -> Pools:
    await volumes.settle()
    return await stack.enter_async_context(OwnPools(sandboxes, snapshots))


def in_pod() -> bool:
    """Tell whether this process runs in a pod of a cluster."""
    return "KUBERNETES_SERVICE_HOST" in os.environ
