"""Routes about the daemon itself."""

import asyncio

from aiohttp import web

from toolbox import __version__
from toolbox.children.environment import Environment
from toolbox.children.python import Python, Pythons
from toolbox.errors import Unavailable
from toolbox.lifetime import Readiness
from toolbox.system.initialization import Initialization
from toolbox.system.models import (
    Directory,
    EnvRequest,
    Health,
    Initialized,
    InitRequest,
    Interpreter,
    Message,
    SystemInfo,
    SystemMetrics,
    Version,
)
from toolbox.system.usage import Usage
from toolbox.web.endpoint import Routes
from toolbox.web.metrics import Metrics

routes = Routes("system")


@routes.get("/version", "GetVersion")
async def version() -> Version:
    """Return the daemon's version."""
    return Version(version=f"v{__version__}")


@routes.get("/system", "GetSystemInfo")
async def system_info(environment: Environment, pythons: Pythons) -> SystemInfo:
    """Return what the daemon is, and what it runs things with."""
    return SystemInfo(
        version=f"v{__version__}",
        work_dir=str(environment.work_dir),
        shell=environment.shell,
        kernel_python=_interpreter(await pythons.for_kernels()),
        program_python=_interpreter(await pythons.for_programs(environment.child())),
    )


def _interpreter(python: Python) -> Interpreter:
    return Interpreter(path=python.path, origin=python.origin)


@routes.get("/work-dir", "GetWorkDir")
async def work_dir(environment: Environment) -> Directory:
    """Return the directory that relative paths and commands start from."""
    return Directory(dir=str(environment.work_dir))


@routes.get("/user-home-dir", "GetUserHomeDir")
async def user_home_dir(environment: Environment) -> Directory:
    """Return the home directory."""
    return Directory(dir=environment.home)


@routes.get("/project-dir", "GetProjectDir")
async def project_dir(environment: Environment) -> Directory:
    """Return the home directory (the legacy name)."""
    return Directory(dir=environment.home)


@routes.post("/init", "Initialize")
async def initialize(body: InitRequest, initialization: Initialization) -> Initialized:
    """Take the daemon into use: from now on the given token is required, if none was before."""
    await initialization.initialize(body.token, body.env)
    return Initialized(message="initialized", version=f"v{__version__}", env=body.env is not None)


@routes.post("/env", "UpdateEnv")
async def update_env(body: EnvRequest, initialization: Initialization) -> Message:
    """Change the environment variables that later children inherit."""
    await initialization.change_environment(body.set, body.unset, body.unset_value_prefix)
    return Message(message="environment updated")


@routes.get("/system/metrics", "GetSystemMetrics")
async def system_metrics(usage: Usage) -> SystemMetrics:
    """Return the CPU, memory and disk use of the sandbox."""
    return await asyncio.to_thread(usage.read)


@routes.get("/healthz", "GetHealth")
async def healthz() -> Health:
    """Answer as long as the daemon lives."""
    return Health(status="ok")


@routes.get("/readyz", "GetReadiness")
async def readyz(readiness: Readiness) -> Health:
    """Answer 200 when requests are welcome, 503 while shutting down."""
    if not readiness.ready:
        raise Unavailable("not ready")
    return Health(status="ready")


@routes.get("/metrics", "GetPrometheusMetrics", produces="text/plain")
async def prometheus(metrics: Metrics) -> web.Response:
    """Return the daemon's own metrics as Prometheus text."""
    text, content_type = await asyncio.to_thread(metrics.render)
    return web.Response(body=text, headers={"Content-Type": content_type})
