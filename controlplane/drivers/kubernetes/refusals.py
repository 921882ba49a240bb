"""What a pod cannot be given: asked for, it is refused by name."""

from controlplane.drivers.base import Resources
from controlplane.drivers.kubernetes.templates import Blueprint
from controlplane.models import CreateSandbox
from toolbox.errors import BadRequest

_NEVER = {
    "gpu": "gpu",
    "gpu_type": "gpuType",
    "spot": "spot",
    "kvm": "kvm",
    "domain_allow_list": "domainAllowList",
    "auto_pause_interval": "autoPauseInterval",
    "auto_archive_interval": "autoArchiveInterval",
    "secrets": "secrets",
    "linked_sandbox": "linkedSandbox",
}
"""Fields that may only be absent, empty, zero or false: field -> wire name."""


def check_supported(wanted: CreateSandbox, blueprint: Blueprint, *, user: str) -> Resources:
    """Return what the sandbox will get. Raises `BadRequest` naming the first field that cannot be honoured."""
    for field, name in _NEVER.items():
        if getattr(wanted, field):
            raise BadRequest(f"{name}: the kubernetes driver cannot do that")
    if wanted.user is not None and wanted.user != user and not wanted.user.isdigit():
        raise BadRequest(f"user: a pod's user is a number, or {user!r}: {wanted.user!r}")
    if blueprint.home is None and wanted.auto_delete_interval not in (None, 0):
        raise BadRequest("autoDeleteInterval: only 0: nothing here outlives a stop (the template has no home claim)")
    usual = blueprint.resources
    for name in ("cpu", "memory", "disk"):
        if getattr(wanted, name) is not None and getattr(wanted, name) < 1:
            raise BadRequest(f"{name}: must be at least 1")
    if wanted.disk is not None and wanted.disk != usual.disk and blueprint.home is None:
        raise BadRequest("disk: the template has no home claim, so it cannot be limited")
    return Resources(cpu=wanted.cpu or usual.cpu, memory=wanted.memory or usual.memory, disk=wanted.disk or usual.disk)
