"""What a container is given, and what it cannot be: asked for, that is refused by name."""

from controlplane.drivers.base import Resources
from controlplane.drivers.docker.engine import Machine
from controlplane.drivers.docker.volumes import check_volumes
from controlplane.models import CreateSandbox
from toolbox.errors import BadRequest

DEFAULT_CPU = 1
DEFAULT_MEMORY = 1
DEFAULT_DISK = 10
"""GiB, as memory."""
_NEVER = {
    "gpu": "gpu",
    "gpu_type": "gpuType",
    "spot": "spot",
    "kvm": "kvm",
    "network_allow_list": "networkAllowList",
    "domain_allow_list": "domainAllowList",
    "otel_endpoint_override": "otelEndpointOverride",
    "linked_sandbox": "linkedSandbox",
}
"""Fields that may only be absent, empty, zero or false: field -> wire name."""


def refuse(name: str) -> BadRequest:
    """Return the refusal of a field."""
    return BadRequest(f"{name}: the docker driver cannot do that")


def check_supported(wanted: CreateSandbox, machine: Machine) -> Resources:
    """Return what the sandbox will get. Raises `BadRequest` naming the first field that cannot be honoured."""
    for field, name in _NEVER.items():
        if getattr(wanted, field):
            raise refuse(name)
    if wanted.auto_pause_interval and not machine.can_freeze:
        raise refuse("autoPauseInterval")
    if wanted.user is not None and (not wanted.user or any(each.isspace() or each == "\0" for each in wanted.user)):
        raise BadRequest(f"user: not a user: {wanted.user!r}")
    check_volumes(wanted.volumes or [])
    return check_resources(wanted.cpu, wanted.memory, wanted.disk, machine)


def check_resources(cpu: int | None, memory: int | None, disk: int | None, machine: Machine) -> Resources:
    """Return the resources with defaults. Raises `BadRequest` for more than there is, or than can be enforced."""
    for name, value, most, enforced in (
        ("cpu", cpu, machine.cpus, machine.limits_cpu),
        ("memory", memory, machine.memory, machine.limits_memory),
        ("disk", disk, machine.disk, machine.limits_disk),
    ):
        if not value:
            continue
        if not enforced:
            raise BadRequest(f"{name}: the container engine of this machine cannot limit it")
        if not 1 <= value <= most:
            raise BadRequest(f"{name}: must be from 1 to {most}, what this machine has")
    return Resources(
        cpu=cpu or (min(DEFAULT_CPU, machine.cpus) if machine.limits_cpu else machine.cpus),
        memory=memory or (min(DEFAULT_MEMORY, machine.memory) if machine.limits_memory else machine.memory),
        # What is not limited is all there is.
        disk=disk or (min(DEFAULT_DISK, machine.disk) if machine.limits_disk else machine.disk),
    )
