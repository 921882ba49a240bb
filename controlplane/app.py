"""Puts the control plane together: which services it has and in which order they live."""

import asyncio
import fcntl
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from controlplane.archive import Archive
from controlplane.copies import Copies
from controlplane.doors import Doors
from controlplane.drivers.process import ProcessDriver
from controlplane.egress.proxy import Egress
from controlplane.gateway import Gateway
from controlplane.grants import Grants
from controlplane.keys import SandboxKeys, machine_key
from controlplane.lifetimes import Lifetimes
from controlplane.links import Links
from controlplane.outlets import Outlets
from controlplane.previews import Previews, finish_preview
from controlplane.proxy import Proxy
from controlplane.routes import routes
from controlplane.routes_access import routes as access_routes
from controlplane.routes_copies import routes as copy_routes
from controlplane.routes_secrets import routes as secret_routes
from controlplane.sandboxes import Sandboxes
from controlplane.secrets import Secrets
from controlplane.snapshots import Snapshots
from controlplane.steps import Steps
from controlplane.store import SqliteRepository, StoreError
from controlplane.upstreams import Upstreams
from controlplane.vault import Vault
from controlplane.volumes import Volumes
from toolbox import __version__
from toolbox.children.process import Children
from toolbox.config import ConfigError, UpConfig
from toolbox.lifetime import TaskSet
from toolbox.state import StateDir
from toolbox.web.endpoint import Endpoint
from toolbox.web.metrics import Metrics
from toolbox.web.middleware import Pipeline
from toolbox.web.openapi import document_routes
from toolbox.web.relay import keep_relayed_headers
from toolbox.web.server import Server, build_application

# Words that stand for themselves come before those that take any: `/sandbox/ssh-access` before `/sandbox/{sandbox}`.
ENDPOINTS: list[Endpoint] = [*access_routes, *copy_routes, *secret_routes, *routes]
NOTICE = (
    "toolboxd: the process driver separates the directories and processes of sandboxes, not their users: "
    "code in one sandbox can reach the files of this user. Run code you do not trust in containers."
)
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Running:
    """A control plane that answers."""

    port: int
    api_url: str
    api_key: str
    ssh_port: int = 0
    """Port of SSH, 0 when it is off."""


async def run(config: UpConfig, stop: asyncio.Event) -> int:
    """Serve until `stop` is set; print what a shell needs to use it. Raises `ConfigError`, `OSError` from listening."""
    async with running(config, sole=True) as server:
        print(NOTICE, file=sys.stderr, flush=True)  # noqa: T201 -- a command line talks
        if server.ssh_port:
            print(f"toolboxd: SSH on port {server.ssh_port}", file=sys.stderr, flush=True)  # noqa: T201
        print(f"export DAYTONA_API_URL={server.api_url}")  # noqa: T201
        print(f"export DAYTONA_API_KEY={server.api_key}", flush=True)  # noqa: T201
        await stop.wait()
    return 0


@asynccontextmanager
async def running(config: UpConfig, *, sole: bool = False) -> AsyncIterator[Running]:
    """Run the control plane. `sole`: it has the process for itself. Raises `ConfigError`, `OSError` from listening."""
    if config.driver != ProcessDriver.name:
        raise ConfigError(f"driver: there is no {config.driver!r}, only {ProcessDriver.name}")
    async with AsyncExitStack() as stack:
        state = await asyncio.to_thread(StateDir.open, config.state_dir)
        directory = await asyncio.to_thread(state.directory, "controlplane")
        stack.enter_context(_only_one(directory / "lock"))
        key = config.resolve_token()
        if key is None:
            key = await asyncio.to_thread(machine_key, directory / "api-key")
        keys = SandboxKeys(await asyncio.to_thread(machine_key, directory / "sandbox-secret"))
        upstreams = await stack.enter_async_context(Upstreams())
        doors = Doors(key, allow_origins=frozenset(config.allow_origins), keys=keys, upstreams=upstreams)
        metrics = Metrics()
        pipeline = Pipeline(doors, metrics, source=None)
        tasks = await stack.enter_async_context(TaskSet())
        tasks.start(metrics.watch_loop(), "event loop lag")
        listening_at = f"{_WILDCARDS.get(config.host, config.host)}:{config.port}"
        links = Links(config.public_url, listening_at, config.preview_domain)
        services = await _enter_services(stack, directory, upstreams, keys, links, doors, sole=sole)
        server = Server(build_control_plane({**services, Metrics: metrics}, pipeline), pipeline, mount=links.mount)
        await server.start()
        stack.push_async_callback(server.stop)
        gateway: Gateway = services[Gateway]
        if config.ssh_port is not None:
            await gateway.listen(config.host, config.ssh_port, directory / "ssh-host-key")
        port = await server.listen_tcp(config.host, config.port)
        base = config.public_url or f"http://{_WILDCARDS.get(config.host, config.host)}:{port}"
        yield Running(port, f"{base.rstrip('/')}/api", key, gateway.port)


async def _enter_services(
    stack: AsyncExitStack,
    directory: Path,
    upstreams: Upstreams,
    keys: SandboxKeys,
    links: Links,
    doors: Doors,
    *,
    sole: bool,
) -> dict[type, Any]:
    try:
        store = await stack.enter_async_context(SqliteRepository(directory / "sandboxes.sqlite"))
        children = await stack.enter_async_context(Children(sole=sole))
        driver = await stack.enter_async_context(ProcessDriver(directory, children))
        archive = Archive(await asyncio.to_thread(_made, directory / "archive"))
        snapshots = await stack.enter_async_context(Snapshots(store, driver))
        volumes = Volumes(store, driver)
        secrets = Secrets(store, Vault(await asyncio.to_thread(machine_key, directory / "vault-key")))
        egress = await stack.enter_async_context(Egress(directory / "egress", driver, store, secrets, keys))
        sandboxes = await stack.enter_async_context(
            Sandboxes(Steps(store), driver, snapshots, volumes, archive, upstreams, keys, egress)
        )
        outlets = Outlets(sandboxes, secrets, egress, upstreams)
        copies = Copies(sandboxes, snapshots, archive)
        await copies.settle()
        sandboxes.steps.tasks.start(Lifetimes(sandboxes, copies).watch(), "lifetimes")
        grants = Grants(store)
        gateway = await stack.enter_async_context(Gateway(sandboxes, upstreams, grants))
    except (StoreError, sqlite3.Error) as error:
        raise ConfigError(f"cannot use the state directory {directory}: {error}") from None
    previews = Previews(sandboxes, upstreams, grants, keys, links, doors)
    found = (
        *(sandboxes, copies, snapshots, volumes, secrets, outlets),
        *(Proxy(sandboxes, upstreams), previews, grants, gateway, keys, links),
    )
    return {type(each): each for each in found}


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def build_control_plane(services: Mapping[type, Any], pipeline: Pipeline) -> web.Application:
    """Return the application that answers. Raises `LookupError` for a service nobody provides."""
    document = document_routes(ENDPOINTS, title="sandbox-toolbox sandboxes", version=__version__)
    app = build_application([*ENDPOINTS, *document], services, pipeline)
    app.on_response_prepare.append(keep_relayed_headers)
    app.on_response_prepare.append(finish_preview)
    app.on_shutdown.append(services[Proxy].close_tunnels)
    app.on_shutdown.append(services[Previews].close_tunnels)
    return app


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold the lock of a state directory. Raises `ConfigError` when another control plane holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigError(f"another control plane uses the state directory {path.parent}") from None
    try:
        yield
    finally:
        os.close(descriptor)
