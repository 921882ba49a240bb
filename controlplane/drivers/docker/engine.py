"""The container engine: how to find it, what it can, and its errors in our words."""

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from aiodocker import Docker, DockerError

from controlplane.drivers.base import DriverError
from toolbox.config import ConfigError

CALL_SECONDS = 60.0
"""How long an answer may take; what streams has its own limits."""
_CALLS_AT_ONCE = 8
_NO_CONNECTION = 900
"""What aiodocker has as the status of an answer that did not come."""
_GIB = 1024**3
_SIZED_DRIVERS = frozenset({"btrfs", "zfs", "devicemapper", "windowsfilter"})
"""Storage drivers that limit what a container writes wherever they run."""


class EngineUnavailable(DriverError):
    """The engine does not answer; it may again."""

    status = 503
    code = "ENGINE_UNAVAILABLE"


class Refused(DriverError):
    """The engine answered that it cannot."""

    def __init__(self, message: str, engine_status: int) -> None:
        super().__init__(message)
        self.engine_status = engine_status
        """The engine's HTTP status; 0 when the error came in the middle of a stream."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine has to give, and which limits it can hold a container to."""

    podman: bool
    cpus: int
    memory: int
    """GiB."""
    disk: int
    """GiB of the file system that containers are kept on."""
    limits_cpu: bool
    limits_memory: bool
    limits_swap: bool
    limits_pids: bool
    limits_disk: bool
    can_freeze: bool
    rootless: bool
    """Its containers are in networks that this machine has no address in."""

    @property
    def network(self) -> str:
        """The network that containers are on by default."""
        return "podman" if self.podman else "bridge"


class Engine:
    """A connection to the engine."""

    def __init__(self, docker: Docker, machine: Machine, host: str) -> None:
        self.docker = docker
        self.machine = machine
        self.host = host
        # More at once would only wait for each other in the engine, where the time of a call runs.
        self._turns = asyncio.Semaphore(_CALLS_AT_ONCE)

    @classmethod
    async def open(cls, host: str) -> Self:
        """Connect to the engine at a URL. Raises `ConfigError` when none answers there."""
        try:
            docker = Docker(host)
        except (ValueError, AssertionError) as error:
            raise ConfigError(f"docker-host: not usable: {host!r}: {error}") from None
        try:
            async with asyncio.timeout(CALL_SECONDS):
                version, info = await docker.version(), await docker.system.info()
        except (OSError, aiohttp.ClientError, DockerError) as error:
            await docker.close()
            reason = str(error) or type(error).__name__
            raise ConfigError(f"no container engine answers at {host}: {reason}") from None
        return cls(docker, await asyncio.to_thread(_machine, version, info), host)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.docker.close()

    @asynccontextmanager
    async def doing(self, what: str, seconds: float | None = CALL_SECONDS) -> AsyncIterator[Docker]:
        """Say the engine's errors in our words: `cannot <what>: …`. Raises `EngineUnavailable`, `Refused`."""
        try:
            async with asyncio.timeout(seconds):
                yield self.docker
        except DockerError as error:
            if error.status == _NO_CONNECTION:
                raise EngineUnavailable(f"cannot {what}: the container engine does not answer") from None
            raise Refused(f"cannot {what}: {error.message}", error.status) from None
        except (OSError, aiohttp.ClientError) as error:
            reason = str(error) or type(error).__name__
            raise EngineUnavailable(f"cannot {what}: the container engine does not answer: {reason}") from None

    async def inspect(self, container: str) -> Mapping[str, Any] | None:
        """Return what the engine knows of a container, None when there is none. Raises `DriverError`."""
        try:
            async with self.doing("look at the sandbox's container") as docker:
                found = await docker.containers.get(container)
                return found._container  # noqa: SLF001 -- the whole answer has no other name
        except Refused as error:
            if error.engine_status == 404:  # noqa: PLR2004
                return None
            raise

    async def list(self, label: str) -> list[Mapping[str, Any]]:
        """Return all containers with a label (`NAME=value`), running or not. Raises `DriverError`."""
        async with self.doing("list containers") as docker:
            found = await docker.containers.list(all=True, filters=_filters(label=[label]))
            return [each._container for each in found]  # noqa: SLF001

    async def create(self, name: str, config: Mapping[str, Any]) -> None:
        """Make a container. Raises `DriverError`."""
        async with self._turns, self.doing("make the sandbox's container") as docker:
            await docker.containers.create(dict(config), name=name)

    async def log(self, container: str, *, lines: int) -> str:
        """Return the last lines that a container wrote. Raises `DriverError`."""
        async with self.doing("read the log of the sandbox's container") as docker:
            found = await docker.containers.container(container).log(stdout=True, stderr=True, tail=lines)
        return "".join(found).strip()

    async def freeze(self, container: str, *, frozen: bool) -> None:
        """Freeze a container, or let it go on. Raises `DriverError`."""
        async with self.doing(f"{'pause' if frozen else 'resume'} the sandbox's container") as docker:
            found = docker.containers.container(container)
            await (found.pause() if frozen else found.unpause())

    async def gateway(self) -> str | None:
        """Return the address of this machine on the network of containers, None if it has none. Raises `DriverError`.

        IPv4, which every such network has.
        """
        async with self.doing("look at the network of containers") as docker:
            found = await (await docker.networks.get(self.machine.network)).show()
        ranges = (found.get("IPAM") or {}).get("Config") or []
        return next((each["Gateway"] for each in ranges if "." in (each.get("Gateway") or "")), None)

    async def remove(self, container: str) -> None:
        """End and remove a container with its nameless volumes, if there is one. Raises `DriverError`."""
        await self._unless_gone("remove the sandbox's container", container, "delete", force=True, v=True)

    async def stop(self, container: str, seconds: int) -> None:
        """End a container, if there is one: asked first, killed after `seconds`. Raises `DriverError`."""
        what = "stop the sandbox's container"
        try:
            await self._unless_gone(what, container, "stop", t=seconds)
        except Refused:
            found = await self.inspect(container)
            if found is None or not found["State"].get("Paused"):
                raise
            # Podman ends none that is frozen.
            await self.freeze(container, frozen=False)
            await self._unless_gone(what, container, "stop", t=seconds)

    async def _unless_gone(self, what: str, container: str, call: str, **options: Any) -> None:
        try:
            async with self._turns, self.doing(what) as docker:
                await getattr(docker.containers.container(container), call)(**options)
        except Refused as error:
            if error.engine_status not in (304, 404):
                raise

    async def update(self, container: str, *, cpu: int | None, memory: int | None) -> None:
        """Change limits of a running container: cores, GiB; None leaves one as it is. Raises `DriverError`."""
        size, period = (memory or 0) * _GIB, 100_000
        body: dict[str, Any] = {}
        if self.machine.podman:
            # Podman has it only in its own API.
            url = f"{self.docker.docker_host}/v4.3.0/libpod/containers/{container}/update"
            if cpu is not None:
                body["cpu"] = {"quota": cpu * period, "period": period}
            if memory is not None:
                body["memory"] = {"limit": size, **({"swap": size} if self.machine.limits_swap else {})}
        else:
            url = self.url(f"containers/{container}/update")
            if cpu is not None:
                body["NanoCpus"] = cpu * 10**9
            if memory is not None:
                body |= {"Memory": size, **({"MemorySwap": size} if self.machine.limits_swap else {})}
        async with self.doing("change the sandbox's limits") as docker, docker.session.post(url, json=body) as answer:
            if not answer.ok:
                raise DockerError(answer.status, _message(await answer.text()))

    async def connect(self, container: str, *, connected: bool) -> None:
        """Give a container its network, or take it away. Raises `DriverError`."""
        network = self.machine.network
        what = f"{'connect' if connected else 'disconnect'} the sandbox's network"
        async with self.doing(what) as docker:
            found = await docker.networks.get(network)
            if connected:
                await found.connect({"Container": container})
            else:
                await found.disconnect({"Container": container, "Force": True})

    async def events(self, label: str) -> AsyncIterator[Mapping[str, Any] | None]:
        """Yield None once events are listened to, then each end of a container with a label, until the engine goes.

        Raises `DriverError`.
        """
        # Podman says `die` too, but selects by its own word.
        wanted = _filters(label=[label], type=["container"], event=["died" if self.machine.podman else "die"])
        async with (
            self.doing("listen to the container engine", seconds=None) as docker,
            docker.session.get(self.url("events"), params={"filters": wanted}) as answer,
        ):
            answer.raise_for_status()
            yield None
            async for line in answer.content:
                if line.strip():
                    yield msgspec.json.decode(line)

    def url(self, path: str) -> str:
        """Return the URL of a route of the Engine API."""
        return f"{self.docker.docker_host}/{self.docker.api_version}/{path}"


def find_engine(configured: str | None, environ: Mapping[str, str]) -> str:
    """Return the URL of this machine's engine. Raises `ConfigError` when there seems to be none."""
    host = configured or environ.get("DOCKER_HOST")
    if host:
        return f"unix://{host}" if host.startswith("/") else host
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    sockets = ["/run/docker.sock", f"{runtime}/docker.sock", "/run/podman/podman.sock", f"{runtime}/podman/podman.sock"]
    for path in sockets:
        if os.access(path, os.W_OK) and stat.S_ISSOCK(Path(path).stat().st_mode):
            return f"unix://{path}"
    raise ConfigError(f"no container engine: none listens at {', '.join(sockets)}; name one by --docker-host")


def _machine(version: Mapping[str, Any], info: Mapping[str, Any]) -> Machine:
    components = [each.get("Name", "") for each in version.get("Components") or []]
    # Docker says it in one way, Podman in the other.
    rootless = "rootless" in str(info.get("SecurityOptions")) or bool(info.get("Rootless"))
    # Without root there are control groups in version 2 only. Podman does not say so: it tells what the machine could.
    controlled = not rootless or info.get("CgroupVersion") == "2"
    return Machine(
        podman=any("Podman" in name for name in components),
        cpus=max(1, info.get("NCPU") or 1),
        memory=max(1, (info.get("MemTotal") or 0) // _GIB),
        disk=_disk(info.get("DockerRootDir") or "/"),
        limits_cpu=controlled and bool(info.get("CpuCfsQuota")),
        limits_memory=controlled and bool(info.get("MemoryLimit")),
        limits_swap=controlled and bool(info.get("SwapLimit")),
        limits_pids=controlled and bool(info.get("PidsLimit")),
        limits_disk=_limits_disk(info),
        can_freeze=controlled,
        rootless=rootless,
    )


def _disk(directory: str) -> int:
    try:
        total = shutil.disk_usage(directory).total
    except OSError:  # not ours to look into
        total = shutil.disk_usage("/").total
    return max(1, total // _GIB)


def _limits_disk(info: Mapping[str, Any]) -> bool:
    if info.get("Driver") in _SIZED_DRIVERS:
        return True
    backing = dict(each[:2] for each in info.get("DriverStatus") or [] if len(each) > 1).get("Backing Filesystem")
    # With overlay it takes project quotas, which the engine says only when asked for a size.
    return str(info.get("Driver")).startswith("overlay") and backing == "xfs"


def _filters(**values: list[str]) -> str:
    return msgspec.json.encode(values).decode()


def _message(text: str) -> str:
    try:
        return str(msgspec.json.decode(text)["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return text.strip()
