"""The control plane's part of the wire contract, and what it remembers of a sandbox."""

from typing import Any, Self

import msgspec
from msgspec import UNSET, UnsetType

from controlplane.callers import visible_organization
from controlplane.states import Desired, State
from toolbox.web.wire import Model

ORGANIZATION = "local"
"""Whom things belong to where nobody speaks of organisations."""
EVERYBODY = ""
"""In place of an organisation: all of them see it."""
DEFAULT_SNAPSHOT = "default"
LANGUAGE_LABEL = "code-toolbox-language"
LANGUAGES = ("python", "typescript", "javascript")
"""What the label may say: the Python SDK cannot read a sandbox with another value."""


def organization() -> str:
    """Return the organisation that what is made now belongs to."""
    return visible_organization() or ORGANIZATION


class VolumeMount(Model):
    """A volume wanted in a sandbox."""

    volume_id: str
    mount_path: str
    subpath: str | None = None


class CreateBuildInfo(Model):
    """A declarative image wanted instead of a snapshot."""

    dockerfile_content: str | None = None
    context_hashes: list[str] | None = None


class CreateSandbox(Model):
    """What a new sandbox should be. Every field is honoured or refused by name."""

    name: str | None = None
    snapshot: str | None = None
    user: str | None = None
    env: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    public: bool | None = None
    target: str | None = None
    cpu: int | None = None
    gpu: int | None = None
    gpu_type: list[str] | str | None = None
    spot: bool | None = None
    memory: int | None = None
    disk: int | None = None
    kvm: bool | None = None
    network_block_all: bool | None = None
    network_allow_list: str | None = None
    domain_allow_list: str | None = None
    outbound_proxy_url: str | None = None
    otel_endpoint_override: str | None = None
    auto_stop_interval: int | None = None
    auto_pause_interval: int | None = None
    auto_archive_interval: int | None = None
    auto_delete_interval: int | None = None
    ttl_minutes: int | None = None
    queue_timeout: int | None = None
    volumes: list[VolumeMount] | None = None
    secrets: list[dict[str, str]] | None = None
    build_info: CreateBuildInfo | None = None
    linked_sandbox: str | None = None


class BuildInfo(Model):
    """What a declarative image is built from."""

    created_at: str
    updated_at: str
    snapshot_ref: str
    dockerfile_content: str = ""
    context_hashes: list[str] = []


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What sandboxes are made of, as the driver has it."""

    ref: str
    """What the driver finds it by."""
    size: float = 0.0
    """GiB."""
    entrypoint: list[str] = []
    """The image's ENTRYPOINT and CMD: the command that runs beside the daemon."""
    work_dir: str | None = None
    user: str | None = None
    env: dict[str, str] = {}


class Record(msgspec.Struct, kw_only=True, frozen=True):
    """What the control plane remembers of a sandbox. Times are RFC 3339 in UTC and sort as text."""

    id: str
    name: str
    organization_id: str = msgspec.field(default_factory=organization)
    state: State
    desired_state: Desired
    error_reason: str | None = None
    recoverable: bool = False
    snapshot: str
    user: str
    env: dict[str, str]
    labels: dict[str, str]
    public: bool
    target: str
    cpu: int
    gpu: int = 0
    memory: int
    disk: int
    network_block_all: bool = False
    network_allow_list: str | None = None
    domain_allow_list: str | None = None
    outbound_proxy_url: str | None = None
    otel_endpoint_override: str | None = None
    volumes: list[VolumeMount] = []
    """As clients named them; `volume_id` is an id."""
    secrets: list[dict[str, str]] = []
    """`{variable: name of the secret}`."""
    build_info: BuildInfo | None = None
    linked_sandbox_id: str | None = None
    warm_pool_id: str | None = None
    backup_state: str | None = None
    """Of an archived sandbox's files: None, InProgress, Completed or Error (upstream's words)."""
    backup_created_at: str | None = None
    entrypoint: list[str] = []
    """Command beside the daemon, of the snapshot it was made from."""
    image: Image | None = None
    """What it was made from, as its driver has it; None is the driver's default."""
    kvm: bool = False
    spot: bool = False
    auto_stop_interval: int
    auto_pause_interval: int
    auto_archive_interval: int
    auto_delete_interval: int
    auto_destroy_at: str | None = None
    queue_timeout: int | None = None
    sandbox_class: str = "container"
    daemon_version: str | None = None
    runner_id: str | None = None
    instance: str = ""
    """What its daemon runs in (`Access.instance`)."""
    revision: int = 0
    """How often it was changed, where replicas of the control plane have to notice each other's changes."""
    signing_generation: int = 0
    """How often the key of signed file URLs was rotated."""
    created_at: str
    updated_at: str
    state_since: str = ""
    """When it came into its state."""
    last_activity_at: str


class SandboxListItem(Model):
    """A sandbox in a list, which clients tell from a full one by the missing `env`."""

    id: str
    organization_id: str
    name: str
    target: str
    user: str
    public: bool
    network_block_all: bool
    cpu: int
    gpu: int
    memory: int
    disk: int
    labels: dict[str, str]
    toolbox_proxy_url: str
    state: State
    desired_state: Desired
    snapshot: str
    spot: bool
    recoverable: bool
    auto_stop_interval: int
    auto_pause_interval: int
    auto_archive_interval: int
    auto_delete_interval: int
    sandbox_class: str
    created_at: str
    updated_at: str
    last_activity_at: str
    error_reason: str | UnsetType = UNSET
    auto_destroy_at: str | UnsetType = UNSET
    queue_timeout: int | UnsetType = UNSET
    daemon_version: str | UnsetType = UNSET
    runner_id: str | UnsetType = UNSET
    network_allow_list: str | UnsetType = UNSET
    domain_allow_list: str | UnsetType = UNSET
    backup_state: str | UnsetType = UNSET
    linked_sandbox_id: str | UnsetType = UNSET
    warm_pool_id: str | UnsetType = UNSET

    @classmethod
    def of(cls, record: Record, toolbox_proxy_url: str) -> Self:
        """Return `record` as clients see it."""
        values: dict[str, Any] = {}
        for name in cls.__struct_fields__:
            value = getattr(record, name, None)
            if value is not None:
                values[name] = value
        return cls(**values, toolbox_proxy_url=toolbox_proxy_url)


class Sandbox(SandboxListItem, kw_only=True):
    """A sandbox in full."""

    env: dict[str, str]
    kvm: bool
    volumes: list[VolumeMount] = []
    build_info: BuildInfo | UnsetType = UNSET
    backup_created_at: str | UnsetType = UNSET
    outbound_proxy_url: str | UnsetType = UNSET
    otel_endpoint_override: str | UnsetType = UNSET


class ForkRequest(Model):
    """How the new sandbox is called."""

    name: str | None = None


class VolumeRequest(Model):
    """How the new volume is called; without a name it is called by its id."""

    name: str | None = None


class VolumeDto(Model):
    """A volume."""

    id: str
    name: str
    organization_id: str
    state: str
    created_at: str
    updated_at: str
    last_used_at: str | None
    error_reason: str | None


class SnapshotRequest(Model):
    """How the snapshot is called."""

    name: str


class ResizeRequest(Model):
    """What is to change: cores, GiB of memory and disk."""

    cpu: int | None = None
    memory: int | None = None
    disk: int | None = None


class CreateSnapshot(Model):
    """What a new snapshot should be: an image by its name, or a declarative one."""

    name: str
    image_name: str | None = None
    build_info: CreateBuildInfo | None = None
    entrypoint: list[str] | None = None
    cpu: int | None = None
    gpu: int | None = None
    gpu_type: list[str] | str | None = None
    memory: int | None = None
    disk: int | None = None
    region_id: str | None = None
    sandbox_class: str | None = None


class SnapshotDto(Model):
    """A snapshot; what has no value is null."""

    id: str
    organization_id: str
    general: bool
    name: str
    image_name: str | None
    state: str
    size: float | None
    entrypoint: list[str] | None
    cpu: int
    gpu: int
    mem: int
    disk: int
    error_reason: str | None
    created_at: str
    updated_at: str
    last_used_at: str | None
    source_sandbox_id: str | None
    region_ids: list[str]
    sandbox_class: str
    build_info: BuildInfo | UnsetType = UNSET
    ref: str | UnsetType = UNSET


class SnapshotQuery(Model):
    """Which page of which snapshots."""

    page: int = 1
    limit: int = 100
    name: str | None = None
    source_sandbox_id: str | None = None
    sort: str | None = None
    order: str | None = None


class SnapshotPage(Model):
    """One page of snapshots."""

    items: list[SnapshotDto]
    total: int
    page: int
    total_pages: int


class LogQuery(Model):
    """How a log is read."""

    follow: bool = False


class StorageAccess(Model):
    """Where build contexts are pushed to, and with which credentials of S3."""

    access_key: str
    secret: str
    session_token: str
    storage_url: str
    organization_id: str
    bucket: str
    region: str


class SandboxPage(Model):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[SandboxListItem]
    next_cursor: str | None


class NumberedPage(Model):
    """One page of a list as older SDKs read it."""

    items: list[Sandbox]
    total: int
    page: int
    total_pages: int


class Labels(Model):
    """The labels of a sandbox, all of them."""

    labels: dict[str, str]


class Url(Model):
    """An address."""

    url: str


class PortPreviewUrl(Model):
    """Where a port of a sandbox is seen, and the token that opens it."""

    sandbox_id: str
    url: str
    token: str
    path_url: str
    """The same without a host name of its own, for clients that cannot look such names up."""


class SignedQuery(Model):
    """How long a signed preview is good for."""

    expires_in_seconds: int = 60


class SignedPortPreviewUrl(Model):
    """A link that opens a port of a sandbox for whoever has it."""

    sandbox_id: str
    port: int
    token: str
    url: str
    path_url: str
    expires_at: str


class SshQuery(Model):
    """How long SSH access is good for."""

    expires_in_minutes: int = 60


class TokenQuery(Model):
    """Which SSH access; none means all of a sandbox."""

    token: str | None = None


class SshAccess(Model):
    """SSH access to a sandbox, and the command that uses it."""

    id: str
    sandbox_id: str
    token: str
    expires_at: str
    created_at: str
    updated_at: str
    ssh_command: str


class SshAccessValidation(Model):
    """Whether a token gives SSH access, and to which sandbox (empty: to none)."""

    valid: bool
    sandbox_id: str


class Health(Model):
    """The server answers."""

    status: str


class NumberedQuery(Model):
    """Which numbered page of which sandboxes."""

    page: int = 1
    limit: int = 100
    labels: str | None = None


class StopQuery(Model):
    """How to stop."""

    force: bool = False


class ListQuery(Model):
    """Which sandboxes, in which order. `states`, `snapshots`, `regionIds`, `sandboxClasses` may be repeated."""

    cursor: str | None = None
    limit: int = 100
    id: str | None = None
    name: str | None = None
    labels: str | None = None
    states: str | None = None
    snapshots: str | None = None
    region_ids: str | None = None
    sandbox_classes: str | None = None
    min_cpu: float | None = None
    max_cpu: float | None = None
    min_memory: float | None = msgspec.field(default=None, name="minMemoryGiB")
    max_memory: float | None = msgspec.field(default=None, name="maxMemoryGiB")
    min_disk: float | None = msgspec.field(default=None, name="minDiskGiB")
    max_disk: float | None = msgspec.field(default=None, name="maxDiskGiB")
    min_gpu: float | None = None
    max_gpu: float | None = None
    is_public: bool | None = None
    is_recoverable: bool | None = None
    created_at_after: str | None = None
    created_at_before: str | None = None
    last_event_after: str | None = None
    last_event_before: str | None = None
    auto_destroy_at_after: str | None = None
    auto_destroy_at_before: str | None = None
    sort: str | None = None
    order: str | None = None
