"""Secrets: values that sandboxes use without having them: they hold placeholders that the egress proxy replaces."""

import re
import secrets
import uuid
from collections.abc import Mapping, Sequence

import msgspec

from controlplane.listing import MAX_LIMIT, Position, read_cursor
from controlplane.models import organization
from controlplane.store import Collection, Repository
from controlplane.vault import Vault
from toolbox.children.environment import check_variables
from toolbox.errors import BadRequest, NotFound
from toolbox.web.middleware import timestamp

PLACEHOLDER = re.compile(r"dtn_secret_[0-9a-f]{32}")
"""What stands for a value: the same characters in a header, a URL, a form and JSON."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,255}\Z")
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\Z")
_MAX_HOST = 253
_MAX_VALUE = 64 * 1024
_SORTS = {"name": "name", "createdAt": "created_at", "updatedAt": "updated_at"}
"""What lists can be sorted by: wire name -> field."""


class Secret(msgspec.Struct, kw_only=True, frozen=True):
    """A secret as it is remembered. Times are RFC 3339 in UTC."""

    id: str
    name: str
    organization_id: str = msgspec.field(default_factory=organization)
    placeholder: str
    sealed: str
    """The value, encrypted."""
    description: str | None = None
    hosts: list[str]
    """Where the value may be sent to, in lower case; empty for anywhere."""
    created_at: str
    updated_at: str

    def allows(self, host: str) -> bool:
        """Tell whether the value may be sent to `host`, in lower case without a port."""
        return not self.hosts or any(
            host.endswith(each[1:]) if each.startswith("*.") else host == each for each in self.hosts
        )


class Secrets:
    """All secrets. Their values go in, and out to the egress proxy only."""

    def __init__(self, store: Repository, vault: Vault) -> None:
        self._known: Collection[Secret] = store.collection("secret", Secret)
        self._vault = vault

    async def create(self, name: str, value: str, *, description: str | None, hosts: Sequence[str]) -> Secret:
        """Keep a value. Raises `Conflict` (the name), `BadRequest` naming the field that is wrong."""
        if not _NAME.match(name):
            raise BadRequest("name: letters, digits, '_' and '-' only, at most 256, beginning with a letter or '_'")
        now, secret_id = timestamp(), str(uuid.uuid4())
        secret = Secret(
            id=secret_id,
            name=name,
            placeholder=f"dtn_secret_{secrets.token_hex(16)}",
            sealed=self._sealed(secret_id, value),
            description=description,
            hosts=_checked_hosts(hosts),
            created_at=now,
            updated_at=now,
        )
        await self._known.add(secret)
        return secret

    async def get(self, id_or_name: str) -> Secret:
        """Return a secret. Raises `NotFound`."""
        found = await self._known.find(id_or_name)
        if found is None:
            raise NotFound(f"secret not found: {id_or_name}")
        return found

    async def all(self) -> list[Secret]:
        """Return all secrets, newest first."""
        return await self._known.all()

    async def page(
        self, *, name: str, sort: str | None, order: str | None, limit: int, cursor: str | None
    ) -> tuple[list[Secret], int, str | None]:
        """Return a page of the secrets with `name` in theirs, how many there are, and the cursor of the next page.

        Raises `BadRequest`.
        """
        field, direction = _SORTS.get(sort or "createdAt"), order or "desc"
        if field is None:
            raise BadRequest(f"sort: must be one of {', '.join(_SORTS)}")
        if direction not in ("asc", "desc"):
            raise BadRequest("order: must be asc or desc")
        if not 1 <= limit <= MAX_LIMIT:
            raise BadRequest(f"limit: must be from 1 to {MAX_LIMIT}")
        descending = direction == "desc"
        places = [
            (Position(sort=field, descending=descending, value=getattr(each, field), id=each.id), each)
            for each in await self._known.all()
            if name.lower() in each.name.lower()
        ]
        places.sort(key=lambda place: (str(place[0].value), place[0].id), reverse=descending)
        total = len(places)
        if cursor:
            after = read_cursor(cursor, sort=field, descending=descending)
            mark = (str(after.value), after.id)
            places = [
                place
                for place in places
                if (key := (str(place[0].value), place[0].id)) != mark and (key < mark) == descending
            ]
        shown = places[:limit]
        more = len(places) > limit
        return [each for _, each in shown], total, shown[-1][0].cursor() if more else None

    async def update(
        self, id_or_name: str, *, value: str | None, description: str | None, hosts: Sequence[str] | None
    ) -> Secret:
        """Change what is given; the placeholder stays. Raises `NotFound`, `BadRequest`."""
        found = await self.get(id_or_name)
        changed = msgspec.structs.replace(
            found,
            sealed=found.sealed if value is None else self._sealed(found.id, value),
            description=found.description if description is None else description,
            hosts=found.hosts if hosts is None else _checked_hosts(hosts),
            updated_at=timestamp(),
        )
        await self._known.save(changed)
        return changed

    async def remove(self, id_or_name: str) -> None:
        """Forget a secret: from now on its placeholder is replaced nowhere. Raises `NotFound`."""
        await self._known.remove((await self.get(id_or_name)).id)

    async def check_wanted(self, wanted: Sequence[Mapping[str, str]], taken: Mapping[str, object]) -> None:
        """Raise `BadRequest` for a secret that there is not, or a variable that cannot be set or is `taken`."""
        seen = set[str]()
        for variable, name in _pairs(wanted):
            check_variables({variable: ""})
            if variable in taken or variable in seen:
                raise BadRequest(f"secrets: the variable {variable} is used for something else")
            seen.add(variable)
            found = await self._known.find(name)
            if found is None or found.name != name:
                raise BadRequest(f"secrets: there is no secret named {name!r}")

    async def variables(self, wanted: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Return the variables with the placeholders of secrets; one that is gone has none."""
        known = {each.name: each.placeholder for each in await self.attached(wanted)}
        return {variable: known[name] for variable, name in _pairs(wanted) if name in known}

    async def attached(self, wanted: Sequence[Mapping[str, str]]) -> list[Secret]:
        """Return the secrets that a sandbox has."""
        found = [(name, await self._known.find(name)) for name in {name for _, name in _pairs(wanted)}]
        return [secret for name, secret in found if secret is not None and secret.name == name]

    def reveal(self, secret: Secret) -> str:
        """Return the value, for the egress proxy. Raises `Unavailable`."""
        return self._vault.open(secret.sealed, purpose=f"secret:{secret.id}")

    def _sealed(self, secret_id: str, value: str) -> str:
        # A line break would end the header that the value is put into.
        if not value or len(value.encode("utf-8", "replace")) > _MAX_VALUE or not value.isprintable():
            raise BadRequest("value: one line of printable characters, not empty, at most 64 KiB")
        return self._vault.seal(value, purpose=f"secret:{secret_id}")


def _pairs(wanted: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    return [pair for each in wanted for pair in each.items()]


def _checked_hosts(hosts: Sequence[str]) -> list[str]:
    found = []
    for host in hosts:
        lower = host.lower().removesuffix(".")
        if not _HOST.match(lower) or len(lower) > _MAX_HOST:
            raise BadRequest(f"hosts: a host name, or '*.' and one, without a port: {host!r}")
        found.append(lower)
    return found
