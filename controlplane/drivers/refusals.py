"""What the process driver cannot give: asked for, it is refused by name."""

from controlplane.models import DEFAULT_SNAPSHOT, CreateSandbox
from toolbox.errors import BadRequest

_NEVER = {
    "build_info": "buildInfo",
    "volumes": "volumes",
    "cpu": "cpu",
    "memory": "memory",
    "disk": "disk",
    "gpu": "gpu",
    "gpu_type": "gpuType",
    "spot": "spot",
    "kvm": "kvm",
    "network_block_all": "networkBlockAll",
    "network_allow_list": "networkAllowList",
    "domain_allow_list": "domainAllowList",
    "outbound_proxy_url": "outboundProxyUrl",
    "otel_endpoint_override": "otelEndpointOverride",
    "linked_sandbox": "linkedSandbox",
    "auto_pause_interval": "autoPauseInterval",
}
"""Fields that may only be absent, empty, zero or false: field -> wire name."""


def check_supported(wanted: CreateSandbox, *, driver: str, user: str) -> None:
    """Raise `BadRequest` naming the first field that cannot be honoured."""
    for field, name in _NEVER.items():
        if getattr(wanted, field):
            raise BadRequest(f"{name}: the {driver} driver cannot do that")
    if wanted.snapshot and wanted.snapshot != DEFAULT_SNAPSHOT:
        raise BadRequest(f"snapshot: the {driver} driver only has {DEFAULT_SNAPSHOT!r}, not {wanted.snapshot!r}")
    if wanted.user and wanted.user != user:
        raise BadRequest(f"user: the {driver} driver runs everything as {user!r}")
