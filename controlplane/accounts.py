"""API keys: made, listed, revoked, and what opens this server by them. Only digests are kept."""

import asyncio
import secrets
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Self

import msgspec

from controlplane.callers import Caller, act_as, current_caller
from controlplane.grants import digest_of
from controlplane.models import ORGANIZATION, organization
from controlplane.permissions import PERMISSIONS
from controlplane.store import Collection, Repository
from controlplane.tokens import Tokens, looks_like_jwt
from toolbox.errors import BadRequest, Conflict, Forbidden, NotFound, Unauthorized
from toolbox.lifetime import TaskSet
from toolbox.web.middleware import timestamp

MACHINE_KEY = "machine"
"""Name of the key that `toolboxd up` prints."""
MACHINE_USER = "operator"
_PREFIX = "dtn_"
_SHOWN = 4
"""Characters of a key's end that lists show."""
USED_SECONDS = 30.0
"""How often the times of last use are written: a crash loses at most this."""
_RESERVED = frozenset({"current"})
_MAX_NAME = 128


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as it is remembered. Times are RFC 3339 in UTC."""

    id: str
    name: str
    organization_id: str = msgspec.field(default_factory=organization)
    user_id: str
    digest: str
    suffix: str
    permissions: list[str]
    created_at: str
    expires_at: str | None = None
    last_used_at: str | None = None

    @property
    def is_good(self) -> bool:
        """Tell whether it has not expired."""
        return self.expires_at is None or datetime.fromisoformat(self.expires_at) > datetime.now(UTC)

    def caller(self) -> Caller:
        """Return who calls with it."""
        return Caller(
            actor_id=self.user_id,
            organization_id=self.organization_id,
            key_name=self.name,
            key_prefix=_PREFIX,
            key_suffix=self.suffix,
            permissions=frozenset(self.permissions),
        )


class Accounts:
    """Finds out who calls."""

    def __init__(self, store: Repository, machine_key: str, tokens: Tokens) -> None:
        self._known: Collection[ApiKey] = store.collection("api_key", ApiKey)
        self._tokens = tokens
        self._machine_digest = digest_of(machine_key)
        self._machine = ApiKey(
            id=MACHINE_KEY,
            name=MACHINE_KEY,
            organization_id=ORGANIZATION,
            user_id=MACHINE_USER,
            digest=self._machine_digest,
            suffix=machine_key[-_SHOWN:],
            permissions=list(PERMISSIONS),
            created_at=timestamp(),
        )
        self._keys: dict[str, ApiKey] = {}
        """By digest: a look-up tells nothing about keys by the time it takes."""
        self._used: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        await self._load()
        self._known.watch(self._changed.set)
        self._tasks.start(self._load_when_changed(), "API keys of other replicas")
        self._tasks.start(self._write_used_forever(), "use of API keys")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        await self._write_used()

    async def _load(self) -> None:
        act_as(None)  # everybody's, whoever has changed one
        self._keys = {each.digest: each for each in await self._known.all()}

    async def _load_when_changed(self) -> None:
        """Keep up with the keys that other replicas give out and revoke, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._load()

    def knows(self, token: str) -> bool:
        """Tell whether `token` is an API key, good or expired: nobody else is to see it."""
        digest = digest_of(token)
        return digest == self._machine_digest or digest in self._keys

    async def identify(self, credentials: Iterable[str], wanted_organization: str | None) -> Caller:
        """Return who brings one of `credentials`, acting for an organisation, their own if None is wanted.

        Raises `Unauthorized`, `Forbidden`, `Unavailable`.
        """
        given = [each for each in credentials if each]
        for token in given:
            if (found := self._by_key(token, wanted_organization)) is not None:
                return found
        for token in given:
            if looks_like_jwt(token):
                return await self._tokens.verify(token, wanted_organization)
        raise Unauthorized("a valid token is required")

    def _by_key(self, token: str, wanted_organization: str | None) -> Caller | None:
        digest = digest_of(token)
        if digest == self._machine_digest:
            caller = self._machine.caller()
            return msgspec.structs.replace(
                caller,
                organization_id=wanted_organization or caller.organization_id,
                permissions=None,
                operator=True,
            )
        key = self._keys.get(digest)
        if key is None:
            return None
        if not key.is_good:
            raise Unauthorized("the API key has expired")
        if wanted_organization not in (None, key.organization_id):
            raise Forbidden("the API key belongs to another organization")
        self._used[key.id] = timestamp()
        return key.caller()

    async def create(self, name: str, permissions: list[str], expires_at: datetime | None) -> tuple[ApiKey, str]:
        """Return a new key of the caller's and its text, which nobody can look up again.

        Raises `BadRequest`, `Conflict` (the name), `Forbidden` for a permission that the caller lacks.
        """
        caller = current_caller()
        if not name.strip() or len(name) > _MAX_NAME or "/" in name or name in _RESERVED:
            raise BadRequest(f"name: 1 to {_MAX_NAME} characters, without '/', and not 'current'")
        unknown = sorted(set(permissions) - set(PERMISSIONS))
        if unknown:
            raise BadRequest(f"permissions: there is no {', '.join(unknown)}")
        if caller is not None and caller.permissions is not None:
            lacking = sorted(set(permissions) - caller.permissions)
            if lacking:
                raise Forbidden(f"permissions: your API key itself lacks {', '.join(lacking)}")
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= datetime.now(UTC)):
            raise BadRequest("expiresAt: must be a time to come, with its zone")
        if name == MACHINE_KEY and organization() == ORGANIZATION:
            raise Conflict(f"an api_key named {name} already exists")
        text = _PREFIX + secrets.token_hex(32)
        key = ApiKey(
            id=str(uuid.uuid4()),
            name=name,
            user_id=caller.actor_id if caller is not None else MACHINE_USER,
            digest=digest_of(text),
            suffix=text[-_SHOWN:],
            permissions=sorted(set(permissions)),
            created_at=timestamp(),
            expires_at=expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if expires_at else None,
        )
        await self._known.add(key)
        self._keys[key.digest] = key
        return key, text

    async def all(self) -> list[ApiKey]:
        """Return the keys of the caller's organisation, newest first, the machine's own last."""
        await self._write_used()
        found = await self._known.all()
        return [*found, self._machine] if organization() == ORGANIZATION else found

    async def get(self, name: str, user_id: str | None = None) -> ApiKey:
        """Return a key of the caller's organisation. Raises `NotFound`."""
        for key in await self.all():
            if key.name == name and user_id in (None, key.user_id):
                return key
        raise NotFound(f"API key not found: {name}")

    async def current(self) -> ApiKey:
        """Return the key that the caller brought. Raises `NotFound` for who brought a JWT."""
        caller = current_caller()
        if caller is None or caller.key_name is None:
            raise NotFound("you do not call with an API key")
        return self._machine if caller.operator else await self.get(caller.key_name)

    async def revoke(self, name: str, user_id: str | None = None) -> None:
        """End a key: the next call with it fails. Raises `NotFound`, `Conflict` for the machine's own."""
        key = await self.get(name, user_id)
        if key is self._machine:
            raise Conflict(
                "the machine's own key cannot be revoked: change its file, or the option `token`, and restart"
            )
        self._keys.pop(key.digest, None)
        self._used.pop(key.id, None)
        await self._known.remove(key.id)

    async def _write_used_forever(self) -> None:
        while True:
            await asyncio.sleep(USED_SECONDS)
            await self._write_used()

    async def _write_used(self) -> None:
        moments, self._used = self._used, {}
        for key in list(self._keys.values()):
            # While one was written another may have been revoked.
            if key.id in moments and key.digest in self._keys:
                used = msgspec.structs.replace(key, last_used_at=moments[key.id])
                self._keys[key.digest] = used
                await self._known.save(used)
