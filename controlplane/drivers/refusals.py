"""What the process driver cannot give: asked for, it is refused by name."""

import os
import pwd
from urllib.parse import urlsplit

from controlplane.drivers.base import Resources
from controlplane.models import CreateSandbox
from toolbox.errors import BadRequest

_NEVER = {
    "build_info": "buildInfo",
    "gpu": "gpu",
    "gpu_type": "gpuType",
    "spot": "spot",
    "kvm": "kvm",
    "network_block_all": "networkBlockAll",
    "network_allow_list": "networkAllowList",
    "domain_allow_list": "domainAllowList",
    "outbound_proxy_url": "outboundProxyUrl",
    "linked_sandbox": "linkedSandbox",
}
"""Fields that may only be absent, empty, zero or false: field -> wire name."""


def check_supported(wanted: CreateSandbox, *, driver: str, user: str, can_pause: bool) -> None:
    """Raise `BadRequest` naming the first field that cannot be honoured."""
    for field, name in _NEVER.items():
        if getattr(wanted, field):
            raise BadRequest(f"{name}: the {driver} driver cannot do that")
    if wanted.auto_pause_interval and not can_pause:
        raise BadRequest(f"autoPauseInterval: the {driver} driver cannot pause sandboxes on this machine")
    if wanted.otel_endpoint_override:
        _check_endpoint(wanted.otel_endpoint_override)
    if wanted.user and wanted.user != user:
        check_user(wanted.user, own=user)


def _check_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and url.isascii() and url.isprintable()
    except ValueError:
        usable = False
    if not usable:
        raise BadRequest("otelEndpointOverride: must be the http(s) URL of a collector")


def check_user(name: str, *, own: str) -> pwd.struct_passwd:
    """Return a user that work can be done as. Raises `BadRequest`."""
    if os.geteuid() != 0:
        raise BadRequest(f"user: without root the process driver runs everything as {own!r}")
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise BadRequest(f"user: this machine has no user {name!r}") from None


def check_resources(wanted: Resources, machine: Resources, *, can_limit: bool) -> None:
    """Raise `BadRequest` naming what the machine does not have, or what cannot be limited."""
    for field in ("cpu", "memory", "disk"):
        value, most = getattr(wanted, field), getattr(machine, field)
        if not 1 <= value <= most:
            raise BadRequest(f"{field}: must be from 1 to {most}, which is what this machine has")
        if value < most and not can_limit and field != "disk":
            raise BadRequest(f"{field}: no control group can be made on this machine, so it cannot be limited")
