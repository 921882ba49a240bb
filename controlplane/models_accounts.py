"""The wire contract of keys, audit log, configuration, warm pools and telemetry."""

from datetime import datetime
from typing import Self

from msgspec import UNSET, UnsetType

from controlplane.accounts import ApiKey
from controlplane.history import Entry
from controlplane.pools import Pool
from toolbox.web.wire import Model, Text


class CreateApiKey(Model):
    """An API key wanted."""

    name: Text
    permissions: list[str] = []
    expires_at: datetime | None = None


class ApiKeyResponse(Model):
    """A new API key, the only time it is shown."""

    name: str
    value: str
    created_at: str
    permissions: list[str]
    expires_at: str | None


class ApiKeyItem(Model):
    """An API key in a list."""

    name: str
    value: str
    """All but its end is hidden."""
    created_at: str
    permissions: list[str]
    last_used_at: str | None
    expires_at: str | None
    user_id: str
    organization_id: str

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Return `key` as clients see it."""
        return cls(
            name=key.name,
            value=f"dtn_********{key.suffix}",
            created_at=key.created_at,
            permissions=key.permissions,
            last_used_at=key.last_used_at,
            expires_at=key.expires_at,
            user_id=key.user_id,
            organization_id=key.organization_id,
        )


class AuditQuery(Model):
    """Which part of the audit log. Each filter may be given as `name` or `name[eq]`."""

    page: int = 1
    limit: int = 100
    next_token: str | None = None
    # `from` and `to` are read by hand: one is a word of Python


class AuditLog(Model):
    """An entry of the audit log."""

    id: str
    actor_id: str
    actor_email: str
    action: str
    created_at: str
    organization_id: str
    actor_api_key_prefix: str | UnsetType = UNSET
    actor_api_key_suffix: str | UnsetType = UNSET
    target_type: str | UnsetType = UNSET
    target_id: str | UnsetType = UNSET
    status_code: int | UnsetType = UNSET
    error_message: str | UnsetType = UNSET
    ip_address: str | UnsetType = UNSET
    user_agent: str | UnsetType = UNSET
    source: str | UnsetType = UNSET

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Return `entry` as clients see it."""
        values = {name: getattr(entry, name) for name in cls.__struct_fields__}
        return cls(**{name: value for name, value in values.items() if value is not None})


class AuditPage(Model):
    """One page of the audit log, the latest first."""

    items: list[AuditLog]
    total: int
    page: int
    total_pages: int
    next_token: str | UnsetType = UNSET


class OidcConfig(Model):
    """The identity provider whose JWTs are accepted; empty where none is."""

    provider: str
    issuer: str
    client_id: str
    audience: str


class RateLimitEntry(Model):
    """How many calls in how many seconds."""

    ttl: int
    limit: int


class RateLimitConfig(Model):
    """The limits there are."""

    authenticated: RateLimitEntry | UnsetType = UNSET


class Configuration(Model):
    """What clients may want to know of this server before they log in."""

    version: str
    oidc: OidcConfig
    linked_accounts_enabled: bool
    announcements: dict[str, str]
    proxy_template_url: str
    proxy_toolbox_url: str
    default_snapshot: str
    dashboard_url: str
    max_auto_archive_interval: int
    maintanance_mode: bool
    environment: str
    rate_limit: RateLimitConfig | UnsetType = UNSET
    ssh_gateway_command: str | UnsetType = UNSET
    ssh_gateway_host: str | UnsetType = UNSET
    ssh_gateway_port: int | UnsetType = UNSET
    ssh_gateway_host_keys: list[str] | UnsetType = UNSET
    ssh_gateway_host_key_fingerprints: list[str] | UnsetType = UNSET


class CreateWarmPool(Model):
    """A warm pool wanted."""

    snapshot: Text
    pool: int
    target: str | None = None


class UpdateWarmPool(Model):
    """How many sandboxes a pool is to keep; 0 empties it."""

    pool: int


class WarmPool(Model):
    """A warm pool."""

    id: str
    organization_id: str
    snapshot: str
    target: str
    pool: int
    current_size: int
    cpu: int
    mem: int
    disk: int
    os_user: str
    env: dict[str, str]
    created_at: str
    updated_at: str
    error_reason: str | UnsetType = UNSET

    @classmethod
    def of(cls, pool: Pool, ready: int, error: str | None) -> Self:
        """Return `pool` as clients see it."""
        return cls(
            id=pool.id,
            organization_id=pool.organization_id,
            snapshot=pool.snapshot,
            target=pool.target,
            pool=pool.size,
            current_size=ready,
            cpu=pool.cpu,
            mem=pool.memory,
            disk=pool.disk,
            os_user=pool.user,
            env={},
            created_at=pool.created_at,
            updated_at=pool.updated_at,
            error_reason=error or UNSET,
        )


class MetricDataPoint(Model):
    """A value at a time."""

    timestamp: str
    value: float


class MetricSeries(Model):
    """The values of one metric, oldest first."""

    metric_name: str
    data_points: list[MetricDataPoint]


class MetricsResponse(Model):
    """What a sandbox used."""

    series: list[MetricSeries]


class LeftoversQuery(Model):
    """Whether to remove what is found, or only to name it."""

    dry_run: bool = False


class LeftoversFound(Model):
    """What no record owned."""

    removed: bool
    sandboxes: list[str]
    archives: list[str]
