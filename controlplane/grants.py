"""What was given out for a while: tokens of signed previews and of SSH, kept as digests, expiring, revocable."""

import base64
import hashlib
import os
import uuid
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

import msgspec

from toolbox.web.middleware import timestamp

TOKEN_LENGTH = 32
"""Characters of a token: 160 bits, lower case, so that it can be a word of a host name."""
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class Kind(StrEnum):
    """What a token opens."""

    PREVIEW = "preview"
    SSH = "ssh"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One token as it is remembered. Times are RFC 3339 in UTC and sort as text."""

    id: str
    kind: Kind
    digest: str
    sandbox_id: str
    port: int = 0
    created_at: str
    expires_at: str

    @property
    def seconds_left(self) -> float:
        """How long it is still good for; not positive when it has expired."""
        return (datetime.fromisoformat(self.expires_at) - datetime.now(UTC)).total_seconds()


class GrantRepository(Protocol):
    """Where grants are remembered."""

    async def add_grant(self, grant: Grant) -> None:
        """Remember a grant."""

    async def find_grant(self, digest: str) -> Grant | None:
        """Return the grant of a token with this digest."""

    async def remove_grants(self, sandbox_id: str, kind: Kind, digest: str | None = None) -> None:
        """Forget the grants of one kind for a sandbox, or the one with this digest."""

    async def remove_expired(self, now: str) -> None:
        """Forget what expired before `now`."""


def digest_of(token: str) -> str:
    """Return what a token is found by: a look-up by digest tells nothing about tokens by the time it takes."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Grants:
    """Every token that is good for a while."""

    def __init__(self, store: GrantRepository) -> None:
        self._store = store

    async def forget_expired(self) -> None:
        """Forget what is good no more."""
        await self._store.remove_expired(timestamp())

    async def issue(self, kind: Kind, sandbox_id: str, *, seconds: int, port: int = 0) -> tuple[Grant, str]:
        """Return a new grant and its token, which nobody can look up again."""
        now = timestamp()
        await self._store.remove_expired(now)
        token = base64.b32encode(os.urandom(20)).decode().lower()
        grant = Grant(
            id=str(uuid.uuid4()),
            kind=kind,
            digest=digest_of(token),
            sandbox_id=sandbox_id,
            port=port,
            created_at=now,
            expires_at=(datetime.now(UTC) + timedelta(seconds=seconds)).strftime(_TIME),
        )
        await self._store.add_grant(grant)
        return grant, token

    async def find(self, kind: Kind, token: str) -> Grant | None:
        """Return the grant of a token that is good now."""
        if len(token) != TOKEN_LENGTH:
            return None
        grant = await self._store.find_grant(digest_of(token))
        return grant if grant is not None and grant.kind is kind and grant.seconds_left > 0 else None

    async def revoke(self, kind: Kind, sandbox_id: str, token: str | None = None) -> None:
        """End a token before its time, or all of one kind for a sandbox; what is not there is as good as ended."""
        await self._store.remove_grants(sandbox_id, kind, digest_of(token) if token else None)
