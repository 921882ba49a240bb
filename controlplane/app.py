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
from urllib.parse import urlsplit

from aiohttp import web

from controlplane.accounts import Accounts
from controlplane.archive import Archive
from controlplane.audit import Audit
from controlplane.builds import Builds
from controlplane.copies import Copies
from controlplane.declared import DeclaredSandboxes
from controlplane.doors import Doors, tell_limits
from controlplane.draining import Draining
from controlplane.drivers.base import DriverError
from controlplane.drivers.process import ProcessDriver
from controlplane.egress.proxy import Egress
from controlplane.events import Events
from controlplane.gateway import Gateway
from controlplane.grants import Grants
from controlplane.ground import Ground, in_pod, open_ground
from controlplane.keys import ADDRESS_FILE, SandboxKeys, store_secret
from controlplane.leftovers import Leftovers
from controlplane.lifetimes import Lifetimes
from controlplane.limits import RateLimit
from controlplane.links import Links
from controlplane.objectstore.credentials import Issuer
from controlplane.objectstore.multipart import Uploads
from controlplane.objectstore.objects import Objects
from controlplane.objectstore.routes import Storage
from controlplane.objectstore.routes import routes as storage_routes
from controlplane.outlets import Outlets
from controlplane.pools import Pools
from controlplane.previews import Previews, finish_preview
from controlplane.proxy import Proxy
from controlplane.recovery import Recovery
from controlplane.routes import routes
from controlplane.routes_access import routes as access_routes
from controlplane.routes_accounts import routes as account_routes
from controlplane.routes_copies import routes as copy_routes
from controlplane.routes_images import routes as image_routes
from controlplane.routes_pools import routes as pool_routes
from controlplane.routes_secrets import routes as secret_routes
from controlplane.routes_volumes import routes as volume_routes
from controlplane.sandboxes import Sandboxes
from controlplane.secrets import Secrets
from controlplane.snapshots import Snapshots
from controlplane.steps import Steps
from controlplane.store import StoreError
from controlplane.telemetry import Telemetry
from controlplane.tokens import Tokens
from controlplane.upstreams import Upstreams
from controlplane.vault import Vault
from controlplane.volumes import Volumes
from controlplane.witness import Witness
from toolbox import __version__
from toolbox.config import ConfigError, UpConfig
from toolbox.lifetime import Stop, TaskSet
from toolbox.state import StateDir
from toolbox.telemetry.service import Telemetry as Exported
from toolbox.web.endpoint import Endpoint
from toolbox.web.metrics import Metrics
from toolbox.web.middleware import Pipeline
from toolbox.web.openapi import document_routes
from toolbox.web.relay import keep_relayed_headers
from toolbox.web.server import Server, build_application

# Words that stand for themselves come before those that take any: `/sandbox/ssh-access` before `/sandbox/{sandbox}`.
ENDPOINTS: list[Endpoint] = [
    *access_routes,
    *account_routes,
    *copy_routes,
    *image_routes,
    *pool_routes,
    *secret_routes,
    *storage_routes,
    *volume_routes,
    *routes,
]
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
    storage_port: int = 0
    """Port of object storage over TLS, 0 when it is off."""


async def run(config: UpConfig, stop: Stop) -> int:
    """Serve until `stop` is set; print what a shell needs to use it. Raises `ConfigError`, `OSError` from listening."""
    async with running(config, sole=True, hurry=stop.hurry) as server:
        if config.driver == ProcessDriver.name:
            print(NOTICE, file=sys.stderr, flush=True)  # noqa: T201 -- a command line talks
        if server.ssh_port:
            print(f"toolboxd: SSH on port {server.ssh_port}", file=sys.stderr, flush=True)  # noqa: T201
        if server.storage_port:
            print(f"toolboxd: object storage on port {server.storage_port}, TLS", file=sys.stderr, flush=True)  # noqa: T201
        print(f"export DAYTONA_API_URL={server.api_url}", flush=True)  # noqa: T201
        if not in_pod():  # logs of pods are read by many
            print(f"export DAYTONA_API_KEY={server.api_key}", flush=True)  # noqa: T201
        await stop.wait()
    return 0


@asynccontextmanager
async def running(
    config: UpConfig, *, sole: bool = False, hurry: asyncio.Event | None = None
) -> AsyncIterator[Running]:
    """Run the control plane. `sole`: it has the process for itself; `hurry`: set, requests are not waited for.

    Raises `ConfigError`, `OSError` from listening.
    """
    async with AsyncExitStack() as stack:
        state = await asyncio.to_thread(StateDir.open, config.state_dir)
        directory = await asyncio.to_thread(state.directory, "controlplane")
        stack.enter_context(_only_one(directory / "lock"))
        ground = await open_ground(stack, config, directory, sole=sole)
        keys, issuer = SandboxKeys(ground.secret), Issuer(ground.secret)
        upstreams = await stack.enter_async_context(Upstreams())
        tokens = await stack.enter_async_context(Tokens.configured(config))
        accounts = await stack.enter_async_context(Accounts(ground.store, ground.api_key, tokens))
        origins, limit = frozenset(config.allow_origins), RateLimit(config.rate_limit)
        doors = Doors(accounts, allow_origins=origins, keys=keys, upstreams=upstreams, limit=limit)
        metrics, draining = Metrics(), Draining(config.drain_seconds, hurry)
        metrics.gauge("requests_under_way", "Requests being answered", draining.__len__)
        exported = await stack.enter_async_context(
            Exported(config.telemetry, metrics, service="sandbox-toolbox-controlplane")
        )
        pipeline = Pipeline(doors, metrics, source=None, telemetry=exported)
        tasks = await stack.enter_async_context(TaskSet())
        tasks.start(metrics.watch_loop(), "event loop lag")
        listening_at = f"{_WILDCARDS.get(config.host, config.host)}:{config.port}"
        links = Links(config.public_url, listening_at, config.preview_domain)
        services = await _enter_services(stack, ground, directory, upstreams, keys, issuer, links, doors)
        services |= {UpConfig: config, Accounts: accounts, RateLimit: limit, Metrics: metrics, Draining: draining}
        services[Events] = await stack.enter_async_context(Events(services[Sandboxes].steps, accounts, links, origins))
        server = Server(build_control_plane(services, pipeline), pipeline, mount=links.mount)
        await server.start()
        stack.push_async_callback(server.stop)
        gateway: Gateway = services[Gateway]
        if config.ssh_port is not None:
            await gateway.listen(config.host, config.ssh_port, directory / "ssh-host-key")
        port = await server.listen_tcp(config.host, config.port)
        if config.storage_port is not None:
            links.storage_port = await _serve_storage(stack, config, directory / "ca", services, pipeline)
        local = f"http://{_WILDCARDS.get(config.host, config.host)}:{port}"
        base = config.public_url or local
        await asyncio.to_thread(store_secret, directory / ADDRESS_FILE, f"{local}/api")
        await stack.enter_async_context(draining)
        yield Running(port, f"{base.rstrip('/')}/api", ground.api_key, gateway.port, links.storage_port)


async def _enter_services(
    stack: AsyncExitStack,
    ground: Ground,
    directory: Path,
    upstreams: Upstreams,
    keys: SandboxKeys,
    issuer: Issuer,
    links: Links,
    doors: Doors,
) -> dict[type, Any]:
    store, driver, history = ground.store, ground.driver, ground.history
    steps = Steps(store)
    try:
        audit = await stack.enter_async_context(Audit(history, steps))
        archive = Archive(await asyncio.to_thread(_made, directory / "archive"))
        objects = await stack.enter_async_context(Objects(store, directory / "storage"))
        builds = await stack.enter_async_context(Builds(store, driver, objects, directory / "builds"))
        snapshots = await stack.enter_async_context(Snapshots(store, driver, builds))
        volumes = Volumes(store, driver)
        secrets = Secrets(store, Vault(ground.vault_key))
        egress = await stack.enter_async_context(Egress(directory / "egress", driver, store, secrets, keys))
        sandboxes = await stack.enter_async_context(
            Sandboxes(steps, driver, snapshots, volumes, archive, upstreams, keys, egress)
        )
        if not driver.replicated:
            await Recovery(sandboxes).recover()
        outlets = Outlets(sandboxes, secrets, egress, upstreams)
        sandboxes.steps.watch(snapshots.watch)
        declared = await stack.enter_async_context(DeclaredSandboxes(sandboxes, builds))
        copies = Copies(sandboxes, snapshots, archive)
        await copies.settle()
        pools = await ground.pools(stack, sandboxes, snapshots, volumes)
        telemetry = Telemetry(history, sandboxes, upstreams)
        if not driver.replicated:
            steps.tasks.start(telemetry.watch(), "telemetry")
        ground.leadership.lead(Lifetimes(sandboxes, copies).watch, "lifetimes")
        ground.leadership.lead(snapshots.tidy_daily, "builds nobody uses")
        grants = Grants(store)
        leftovers = Leftovers(sandboxes, archive, grants)
        gateway = await stack.enter_async_context(Gateway(sandboxes, upstreams, grants))
    except (StoreError, sqlite3.Error) as error:
        raise ConfigError(f"cannot use the state directory {directory}: {error}") from None
    except DriverError as error:
        raise ConfigError(f"cannot find the sandboxes that there are: {error.message}") from None
    previews = Previews(sandboxes, grants, keys, links, doors)
    storage = Storage(objects, Uploads(objects), issuer)
    found = (sandboxes, copies, snapshots, volumes, Proxy(sandboxes), previews, grants, gateway, keys, links)
    mine = (audit, telemetry, leftovers, declared, storage, issuer, secrets, outlets)
    return {Pools: pools, **{type(each): each for each in (*found, *mine)}}


async def _serve_storage(
    stack: AsyncExitStack, config: UpConfig, directory: Path, services: Mapping[type, Any], pipeline: Pipeline
) -> int:
    """Serve object storage over TLS and return its port. Raises `ConfigError`, `OSError` from listening."""
    try:
        from controlplane.authority import Authority, names_of  # noqa: PLC0415 -- an optional extra
    except ModuleNotFoundError as error:
        raise ConfigError(f"storage-port needs the extra sandbox-toolbox[storage]: {error}") from None
    authority = Authority(directory)
    await asyncio.to_thread(authority.open)
    names = await names_of(config.host, urlsplit(config.public_url or "").hostname or "")
    tls = await asyncio.to_thread(authority.server_context, names)
    server = Server(build_application([*storage_routes], services, pipeline), pipeline)
    await server.start()
    stack.push_async_callback(server.stop)
    return await server.listen_tcp(config.host, config.storage_port or 0, tls=tls)


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def build_control_plane(services: Mapping[type, Any], pipeline: Pipeline) -> web.Application:
    """Return the application that answers. Raises `LookupError` for a service nobody provides."""
    document = document_routes(ENDPOINTS, title="sandbox-toolbox sandboxes", version=__version__)
    app = build_application([*ENDPOINTS, *document], services, pipeline)
    app.on_response_prepare.append(keep_relayed_headers)
    app.on_response_prepare.append(finish_preview)
    app.on_response_prepare.append(tell_limits)
    app.on_response_prepare.append(services[Draining].end_connection)
    app.middlewares[:0] = [services[Draining], Witness(services[Audit])]
    app.on_shutdown.append(services[Events].close)
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
