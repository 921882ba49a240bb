"""The composition root: which services the daemon has, in which order they live, which areas answer.

Services are entered in the order written here and left in reverse. Adding an area is its service and its routes here.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from toolbox import __version__
from toolbox.children.environment import Environment
from toolbox.children.process import Children
from toolbox.children.python import Pythons
from toolbox.computeruse.routes import routes as computer_use_routes
from toolbox.computeruse.service import ComputerUse
from toolbox.config import MIB, ConfigError, ServeConfig, secret_variables
from toolbox.files.find import Finder
from toolbox.files.identity import Identity
from toolbox.files.routes import routes as file_routes
from toolbox.files.routes_search import routes as file_search_routes
from toolbox.files.service import Files
from toolbox.files.threads import FileThreads
from toolbox.git.native import Native
from toolbox.git.routes import routes as git_routes
from toolbox.git.service import Git
from toolbox.heap import give_back
from toolbox.incarnation import Incarnation
from toolbox.interpreter.contexts import Contexts
from toolbox.interpreter.kernels import Kernels
from toolbox.interpreter.routes import routes as interpreter_routes
from toolbox.lifetime import Readiness, TaskSet
from toolbox.lsp.routes import routes as lsp_routes
from toolbox.lsp.servers import LanguageServers
from toolbox.port.ports import Ports
from toolbox.port.routes import routes as port_routes
from toolbox.process.code_run import Programs
from toolbox.process.execute import Commands
from toolbox.process.processes import Processes
from toolbox.process.routes import routes as process_routes
from toolbox.proxy.routes import routes as proxy_routes
from toolbox.pty.routes import routes as pty_routes
from toolbox.pty.sessions import Terminals
from toolbox.recording.recordings import Recordings, Screen
from toolbox.recording.routes import routes as recording_routes
from toolbox.session.routes import routes as session_routes
from toolbox.session.sessions import Sessions
from toolbox.ssh.routes import routes as ssh_routes
from toolbox.ssh.server import Ssh
from toolbox.state import StateDir
from toolbox.system.initialization import Initialization
from toolbox.system.routes import routes as system_routes
from toolbox.system.usage import Usage
from toolbox.telemetry.service import Telemetry
from toolbox.web.auth import Auth, Mode
from toolbox.web.drain import Drain
from toolbox.web.endpoint import Endpoint, Services
from toolbox.web.idempotency import IdempotentCalls
from toolbox.web.loopback import Loopback
from toolbox.web.metrics import Metrics
from toolbox.web.middleware import DAEMON_SOURCE, Pipeline
from toolbox.web.openapi import document_routes
from toolbox.web.relay import keep_relayed_headers
from toolbox.web.server import Server, build_application
from toolbox.web.signing import Signatures
from toolbox.web.websocket import Sockets

AREAS = (
    system_routes,
    file_routes,
    file_search_routes,
    git_routes,
    process_routes,
    session_routes,
    pty_routes,
    interpreter_routes,
    lsp_routes,
    computer_use_routes,
    recording_routes,
    port_routes,
    proxy_routes,
    ssh_routes,
)


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that answers."""

    port: int
    """TCP port, 0 when listening on a unix socket."""
    generated_token: str | None
    ssh_port: int = 0
    """Port of SSH, 0 when it has none."""


def build_auth(config: ServeConfig) -> tuple[Auth, str | None]:
    """Return the auth rules and, if one had to be made, the generated token. Raises `ConfigError`."""
    token = config.resolve_token()
    private = config.socket is not None or config.bound_to_loopback
    name = config.auth or ("token" if token or not private else "local")
    try:
        mode = Mode(name)
    except ValueError:
        raise ConfigError(f"auth: not usable: {name!r}") from None
    if mode is Mode.LOCAL and not private:
        raise ConfigError("auth=local needs a loopback address or a unix socket")
    generated = Auth.generate_token() if mode is Mode.TOKEN and token is None else None
    origins = frozenset(config.allow_origins)
    signatures = Signatures(config.signing_key) if config.signing_key else None
    token = token or generated if mode is Mode.TOKEN else None
    return Auth(mode, token, allow_origins=origins, signatures=signatures), generated


@asynccontextmanager
async def running(
    config: ServeConfig, *, sole: bool = False, hurry: asyncio.Event | None = None
) -> AsyncIterator[Running]:
    """Run the daemon. `sole`: it has the process for itself; `hurry`: set, requests under way are not waited for.

    Raises `ConfigError`, and `OSError` from listening.
    """
    auth, generated = build_auth(config)
    state = StateDir.open(config.state_dir)
    environment = Environment(
        config.work_dir, hide=secret_variables(), user=config.user, shell=config.shell, variables=config.variables
    )
    children = Children(user=config.user, sole=sole)
    pythons = Pythons(children, environment, config.kernel_python)
    commands = Commands(children, environment, state.directory("spool"), config.output_limit)
    file_threads = FileThreads(Identity.of_user(config.user) if config.user else None)
    files = Files(config.work_dir, file_threads)
    finder = Finder(children, environment, file_threads)
    native_git = Native(children, environment, state.directory("spool"))
    git = Git(native_git, file_threads, files.resolve, str(config.work_dir))
    sessions = Sessions(
        children,
        environment,
        state.directory("spool"),
        log_limit=config.session_log_limit,
        total_log_limit=config.total_log_limit,
        entrypoint=config.entrypoint,
        entrypoint_waits=auth.by_init,
    )
    terminals = Terminals(children, environment)
    incarnation = Incarnation()
    kernels = Kernels(
        *(children, environment, pythons, incarnation),
        directory=state.directory("kernels"),
        spares=config.spare_kernels,
    )
    contexts = Contexts(kernels, environment, incarnation, limit=config.max_contexts)
    computer_use = ComputerUse(children, environment, config, state.directory("computeruse"))
    desktop = computer_use.desktop
    recordings = Recordings(
        children,
        file_threads,
        Screen(environ=desktop.environ, size=desktop.xserver.screen_size, server=desktop.xserver.server_pid),
        directory=config.recordings_dir,
        spool=state.directory("spool"),
        at_once=config.max_recordings,
        limit_seconds=config.recording_limit_minutes * 60,
        limit_bytes=config.recordings_limit_mb * MIB,
    )
    desktop.before_stop(recordings.stop_all)
    language_servers = LanguageServers(children, environment, file_threads, config.language_servers)
    ports, loopback, idempotent = Ports(), Loopback(auth), IdempotentCalls(state.directory("idempotency"))
    ssh = Ssh(config, children, environment, file_threads, auth, state.directory("ssh"))
    metrics, sockets, readiness = Metrics(), Sockets(), Readiness()
    telemetry = _telemetry(config, metrics, children, sockets)
    initialization = Initialization(
        auth, environment, telemetry, incarnation, start_entrypoint=sessions.start_entrypoint
    )
    services: dict[type, Any] = {
        type(each): each
        for each in (
            auth,
            environment,
            children,
            commands,
            pythons,
            files,
            finder,
            git,
            metrics,
            initialization,
            sockets,
            ports,
            loopback,
            sessions,
            terminals,
            kernels,
            contexts,
            *computer_use.services,
            recordings,
            language_servers,
            ssh,
            idempotent,
            Processes(children),
            Programs(commands, children, environment, pythons),
            readiness,
            Usage(config.work_dir),
        )
    }
    drain = Drain(readiness, sockets)
    pipeline = Pipeline(auth, metrics, source=DAEMON_SOURCE, telemetry=telemetry, drain=drain)
    app = _application(services, pipeline)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(TaskSet())
        _look_after_itself(tasks, metrics)
        living: tuple[AbstractAsyncContextManager[Any], ...] = (
            telemetry,
            children,
            commands,
            ports,
            loopback,
            sessions,
            terminals,
            kernels,
            contexts,
            computer_use,
            file_threads,
            finder,
            language_servers,
            native_git,
            git,
            ssh,
            idempotent,
        )
        for service in living:
            await stack.enter_async_context(service)
        # Left right after the server, so that the services above find their processes gone.
        stack.push_async_callback(children.end_all)
        # Before that: what it supervises would be started again.
        stack.push_async_callback(computer_use.stop)
        # And before that: a film is finished by the process that makes it.
        await stack.enter_async_context(recordings)
        server = Server(app, pipeline, prefixes=_prefixes(config.sandbox_id))
        await server.start()
        stack.push_async_callback(server.stop)
        port = await _listen(server, config)
        readiness.ready = True
        try:
            yield Running(port, generated, ssh.port)
        finally:
            await drain.finish(config.drain_seconds, hurry or asyncio.Event())


def _application(services: Services, pipeline: Pipeline) -> web.Application:
    app = build_application(endpoints(), services, pipeline)
    app.on_response_prepare.append(keep_relayed_headers)
    app.on_shutdown.append(lambda _: services[Sockets].close_all())
    app.on_shutdown.append(services[Loopback].close_tunnels)
    app.on_shutdown.append(services[Ssh].close_connections)
    return app


def _look_after_itself(tasks: TaskSet, metrics: Metrics) -> None:
    tasks.start(metrics.watch_loop(), "event loop lag")
    tasks.start(give_back(metrics.requests.total), "free memory")


def _telemetry(config: ServeConfig, metrics: Metrics, children: Children, sockets: Sockets) -> Telemetry:
    metrics.gauge("children", "Processes started and not yet ended", children.__len__)
    metrics.gauge("websockets", "Open websockets", sockets.__len__)
    name = config.sandbox_id
    telemetry = Telemetry(
        config.telemetry,
        metrics,
        service=f"sandbox-{name}" if name else "sandbox-toolbox",
        attributes={"sandbox.id": name} if name else {},
        usage=Usage(config.work_dir).telemetry,
        command_text=config.otel_command_text,
    )
    children.observe = telemetry.observe_child
    return telemetry


def endpoints() -> Sequence[Endpoint]:
    """Return every endpoint of the daemon, its API document included."""
    found = [endpoint for area in AREAS for endpoint in area]
    return [*found, *document_routes(found, title="sandbox-toolbox", version=__version__)]


async def _listen(server: Server, config: ServeConfig) -> int:
    if config.socket is not None:
        await server.listen_unix(str(config.socket), config.socket_permissions)
        return 0
    return await server.listen_tcp(config.host, config.port)


def _prefixes(sandbox_id: str) -> tuple[str, ...]:
    return (f"/toolbox/{sandbox_id}", f"/{sandbox_id}") if sandbox_id else ()
