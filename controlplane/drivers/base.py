"""What the control plane asks of a driver. What a driver cannot do it refuses by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec

from controlplane.models import CreateSandbox, Image
from toolbox.errors import BadRequest, ToolboxError


class DriverError(ToolboxError):
    """The driver could not do what it should be able to do."""

    status = 500
    code = "SANDBOX_ERROR"


class BuildFailed(DriverError):
    """An image could not be built or pulled; the log says why."""

    status = 400
    code = "BUILD_FAILED"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a daemon listens: a unix socket, else a host and port."""

    unix: str | None = None
    host: str = "sandbox"
    port: int = 80


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the daemon of a running sandbox."""

    address: Address
    token: str
    daemon_version: str | None = None
    instance: str = ""
    """Which of the pods that a sandbox has one after another it is; empty where there is but one place."""


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox gets: cores, memory and disk in GiB."""

    cpu: int
    memory: int
    disk: int


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A volume in a sandbox."""

    volume_id: str
    path: str
    """Absolute path in the sandbox, or in its home (`~/…`) if the driver has that."""
    subpath: str = ""
    """Directory in the volume that is mounted, made if it is not there; empty for all of it."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sandbox may connect to."""

    block_all: bool = False
    allow_list: str | None = None
    """CIDRs, comma-separated; nothing else is reached."""
    domain_allow_list: str | None = None
    proxy: str | None = None
    """URL of the HTTP proxy that programs are told to use."""


class EgressPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sandboxes of a driver find the egress proxy; how they use it is in `Launch.env` of each `start`."""

    listen: str = "127.0.0.1"
    """Address of this machine that the proxy listens at."""
    host: str = "127.0.0.1"
    """Name or address by which sandboxes reach it."""
    certificates: str | None = None
    """Path in the sandbox of `egress/public/certificates.pem` of the state directory, whose `egress/public` a driver
    mounts; None if it has the same path there as here."""
    early: bool = False
    """Whether the address may come only with the first sandbox, when the proxy listens already."""
    this_machine: bool = False
    """Whether sandboxes, being programs of this machine, may reach what listens on it."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver needs to know to make and start a sandbox."""

    id: str
    env: dict[str, str]
    image: Image | None = None
    """None is the driver's default."""
    user: str | None = None
    """The workload user; None is the driver's default or the image's."""
    resources: Resources | None = None
    mounts: list[Mount] = []
    network: Network = Network()
    entrypoint: list[str] = []
    """Command beside the daemon, in place of the image's."""
    otel_endpoint: str | None = None
    """Collector that the daemon's telemetry goes to, in place of the control plane's."""


class Ability(StrEnum):
    """What some drivers can do with sandboxes and others cannot."""

    PAUSE = "pause"
    RESIZE = "resize"
    FORK = "fork"
    SNAPSHOT = "snapshot"
    ARCHIVE = "archive"
    IMAGES = "images"
    BUILD = "build"
    KEEP = "keep"
    """Keep files while a sandbox is stopped."""
    VOLUMES = "volumes"
    NETWORK = "network"


Death = Callable[[str, str], None]
"""Called with a sandbox's id and a reason when its daemon ended and nobody asked for it."""
Log = Callable[[bytes], None]
"""Takes what a build prints, as it comes."""


class Driver(ABC):
    """Starts, ends and finds daemons. The caller never has two calls for one sandbox under way at a time.

    Entered and left as a context. Methods that are not abstract are abilities: a driver that lacks one refuses.
    """

    name: str
    abilities: frozenset[Ability] = frozenset()
    egress: EgressPlace | None = None
    """None: its sandboxes cannot have secrets."""
    user: str
    """The user that sandboxes run as by default."""
    replicated = False
    """Whether several control planes run its sandboxes together: nothing ends with one of them, or is on its disk."""
    mounts_in_home = False
    """Whether a mount path may begin with `~/`, for a home that has no fixed place."""

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Get ready. Raises `ConfigError`."""

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Let go of everything."""

    def cannot(self, what: str) -> BadRequest:
        """Return the refusal of something that this driver never does."""
        return BadRequest(f"the {self.name} driver cannot {what}", code="NOT_SUPPORTED_BY_DRIVER")

    @abstractmethod
    def check(self, wanted: CreateSandbox) -> Resources:
        """Return what the sandbox will get. Raises `BadRequest` naming the first field that cannot be honoured."""

    @abstractmethod
    def watch(self, death: Death) -> None:
        """Report unexpected ends of daemons to `death` from now on."""

    @abstractmethod
    def is_running(self, sandbox_id: str) -> bool:
        """Tell whether the sandbox's daemon is running as far as the driver knows."""

    @abstractmethod
    async def create(self, launch: Launch) -> None:
        """Make what lasts as long as the sandbox. Raises `DriverError`."""

    @abstractmethod
    async def start(self, launch: Launch) -> Access:
        """Start the daemon and return once it answers; on failure nothing of it is left. Raises `DriverError`."""

    @abstractmethod
    async def stop(self, sandbox_id: str, *, force: bool) -> None:
        """End the daemon and all that descends from it; what is on disk stays."""

    @abstractmethod
    async def delete(self, sandbox_id: str) -> None:
        """Remove all of a sandbox, running or not. What is not there counts as removed."""

    @abstractmethod
    async def recover(self, keep: Collection[str], frozen: Collection[str] = ()) -> Mapping[str, Access]:
        """After a crash: adopt the running daemons of the sandboxes in `keep`, end all others; return who answers.

        What is frozen stays so for the sandboxes in `frozen`, and goes on for the others. Raises `DriverError`.
        """

    def reach(self, sandbox_id: str) -> Access | None:
        """Return how to reach the daemon of a sandbox that another control plane may have started."""
        del sandbox_id
        return None

    async def present(self) -> list[str]:
        """Return the ids of all sandboxes of which something is here, known or not; `delete` removes one."""
        return []

    async def logs(self, sandbox_id: str) -> str:
        """Return the end of what the sandbox's daemon wrote. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("show the logs of daemons")

    async def pause(self, sandbox_id: str) -> None:
        """Freeze a running sandbox. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("pause sandboxes")

    async def resume(self, sandbox_id: str) -> Access:
        """Let a frozen sandbox go on. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("resume sandboxes")

    async def resize(self, launch: Launch, *, running: bool) -> None:
        """Give a sandbox the launch's resources. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("resize sandboxes")

    async def fork(self, source_id: str, launch: Launch) -> None:
        """Make a sandbox with the files of another, as `create` does. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("fork sandboxes")

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Change where a sandbox may connect to. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("limit the network")

    async def export(self, sandbox_id: str, target: Path) -> None:
        """Write the files of a stopped sandbox to one file, whole or not at all. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("archive sandboxes")

    async def restore(self, launch: Launch, source: Path) -> None:
        """Make a sandbox, as `create` does, from what `export` wrote. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("restore sandboxes")

    async def discard(self, sandbox_id: str) -> None:
        """Remove what there is of a sandbox that is remembered (its files are archived, or not made yet)."""
        await self.delete(sandbox_id)

    async def snapshot(self, sandbox_id: str, ref: str) -> Image:
        """Make an image of a sandbox's files. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("make snapshots of sandboxes")

    async def pull(self, image: str, ref: str, log: Log) -> Image:
        """Get an image from a registry, or find the one that is here. Raises `BadRequest`, `BuildFailed`."""
        raise self.cannot("use images")

    async def build(self, dockerfile: str, contexts: Collection[Path], ref: str, log: Log) -> Image:
        """Build an image; `contexts` are tar files laid over each other. Raises `BadRequest`, `BuildFailed`."""
        raise self.cannot("build images")

    async def remove_image(self, ref: str) -> None:
        """Remove an image, by its own `ref` or that it was to be made under. What is not there counts as removed."""

    async def make_volume(self, volume_id: str) -> None:
        """Make a volume. Raises `BadRequest`, `DriverError`."""
        raise self.cannot("keep volumes")

    async def remove_volume(self, volume_id: str) -> None:
        """Remove a volume and what is in it. What is not there counts as removed."""
