"""What the engine is told of a sandbox: its container's configuration, the daemon's command, its variables."""

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controlplane.drivers.base import Launch
from controlplane.drivers.docker.bundle import INSIDE as BUNDLE
from controlplane.drivers.docker.engine import Machine
from controlplane.drivers.docker.place import CERTIFICATES
from controlplane.drivers.docker.place import INSIDE as SHARED
from controlplane.models import Image

ROOT = "root"
STATE = "/var/lib/sandbox-toolbox"
"""Where the daemon keeps its state: a volume without a name, which goes with the container and in no image of it."""
MOST_PROCESSES = 4096
STOP_SECONDS = 6
"""A daemon ends within 5 s; what is left after this is killed."""
_GIB = 1024**3
_SHELLS = frozenset({"sh", "ash", "bash", "dash", "zsh", "busybox"})


def configuration(
    launch: Launch,
    image: Image,
    machine: Machine,
    *,
    labels: dict[str, str],
    binds: Sequence[str],
    bundle: Path,
    shared: Path,
    certificates: Path,
) -> dict[str, Any]:
    """Return the configuration of a sandbox's container, as the Engine API wants it."""
    in_container, _ = users(launch.user or image.user)
    # Nobody means to work in the root directory.
    at_home = {} if image.work_dir not in (None, "/") else {"DAYTONA_USER_HOME_AS_WORKDIR": "true"}
    return {
        "Image": image.ref,
        "Entrypoint": [f"{BUNDLE}/bin/toolboxd"],
        "Cmd": command(launch, image),
        "User": in_container,
        "WorkingDir": image.work_dir or "",
        "Env": [f"{name}={value}" for name, value in {**at_home, **image.env}.items()],
        "Labels": labels,
        "Volumes": {STATE: {}},
        "StopSignal": "SIGTERM",
        "StopTimeout": STOP_SECONDS,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "Binds": [
                f"{bundle}:{BUNDLE}:ro",
                f"{shared}:{SHARED}:rw",
                f"{certificates}:{CERTIFICATES}:ro",
                *binds,
            ],
            "NetworkMode": "bridge",
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            **_limits(launch, machine),
        },
    }


def command(launch: Launch, image: Image) -> list[str]:
    """Return the arguments of `toolboxd` in a container; the image's own command comes after `--`."""
    in_container, workload = users(launch.user or image.user)
    arguments = ["serve"]
    for name, file in (("socket", "daemon.sock"), ("token-file", "token"), ("env-file", "env.json")):
        arguments += [f"--{name}", f"{SHARED}/{file}"]
    # The control plane need not be root. Others of this machine do not get to the socket's directory.
    arguments += ["--socket-mode", "666"]
    # Who is not root cannot write to the volume.
    arguments += ["--state-dir", STATE if in_container == "0" else "/tmp/sandbox-toolbox-state"]  # noqa: S108
    # Standard error goes to the engine's log: only what matters.
    arguments += ["--sandbox-id", launch.id, "--log-level", "warning"]
    if workload is not None:
        arguments += ["--user", workload]
    beside = launch.entrypoint or image.entrypoint
    return [*arguments, "--", *beside] if _does_something(beside) else arguments


def users(wanted: str | None) -> tuple[str, str | None]:
    """Return the user that the daemon runs as in a container, and the one that what it starts acts as.

    The daemon is root and changes to a named user, who then cannot reach it; a number need not be a user.
    """
    if wanted in (None, "", ROOT, "0", "0:0", "root:root"):
        return "0", None
    assert wanted is not None  # noqa: S101 -- for mypy
    if ":" in wanted or wanted.isdigit():
        return wanted, None
    return "0", wanted


def _does_something(entrypoint: Sequence[str]) -> bool:
    """Tell whether a command is more than a shell that waits for somebody to type, or a daemon like ours."""
    if not entrypoint:
        return False
    name = posixpath.basename(entrypoint[0])
    if name == "toolboxd":
        return False
    rest = entrypoint[1:]
    if name == "busybox" and rest:
        name, rest = rest[0], rest[1:]
    return name not in _SHELLS or not all(word in ("-i", "-l", "--login") for word in rest)


def _limits(launch: Launch, machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = {"PidsLimit": MOST_PROCESSES} if machine.limits_pids else {}
    resources = launch.resources
    if resources is None:
        return found
    if machine.limits_cpu:
        found["NanoCpus"] = resources.cpu * 10**9
    if machine.limits_memory:
        found["Memory"] = resources.memory * _GIB
        if machine.limits_swap:
            # As much in all: swap would be memory beyond the limit.
            found["MemorySwap"] = resources.memory * _GIB
    if machine.limits_disk:
        found["StorageOpt"] = {"size": f"{resources.disk}G"}
    return found
