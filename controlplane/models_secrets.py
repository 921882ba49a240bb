"""Secrets and network settings: their part of the wire contract."""

from typing import Self

from msgspec import UNSET, UnsetType

from controlplane.secrets import Secret
from toolbox.web.wire import Model


class CreateSecret(Model):
    """A new secret. Without `hosts` it may be sent to any."""

    name: str
    value: str
    description: str | None = None
    hosts: list[str] | None = None


class UpdateSecret(Model):
    """What is to change; what is absent stays."""

    value: str | None = None
    description: str | None = None
    hosts: list[str] | None = None


class SecretView(Model):
    """A secret as clients see it: all but its value."""

    id: str
    name: str
    placeholder: str
    hosts: list[str]
    created_at: str
    updated_at: str
    description: str | UnsetType = UNSET

    @classmethod
    def of(cls, secret: Secret) -> Self:
        """Return `secret` without its value."""
        return cls(
            id=secret.id,
            name=secret.name,
            placeholder=secret.placeholder,
            hosts=secret.hosts,
            created_at=secret.created_at,
            updated_at=secret.updated_at,
            description=UNSET if secret.description is None else secret.description,
        )


class SecretPage(Model):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[SecretView]
    total: int
    next_cursor: str | None


class SecretQuery(Model):
    """Which secrets, in which order; `name` is a part of the name."""

    cursor: str | None = None
    limit: int = 100
    name: str | None = None
    sort: str | None = None
    order: str | None = None


class SandboxSecrets(Model):
    """All secrets of a sandbox: `{variable: name of the secret}` each."""

    secrets: list[dict[str, str]]


class NetworkSettings(Model):
    """Where a sandbox may connect to; what is absent stays."""

    network_block_all: bool | None = None
    network_allow_list: str | None = None
    domain_allow_list: str | None = None
