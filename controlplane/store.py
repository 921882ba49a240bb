"""Where sandboxes are remembered: one repository interface, here over SQLite."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import aiosqlite
import msgspec

from controlplane.callers import visible_organization
from controlplane.grants import Grant, Kind
from controlplane.history import SCHEMA as HISTORY_SCHEMA
from controlplane.listing import Filter, Listing
from controlplane.models import EVERYBODY, Record
from toolbox.errors import Conflict

SCHEMA_VERSION = 4
_FIRST_COLUMNS = (
    "id", "name", "state", "snapshot", "target", "sandbox_class", "public", "recoverable", "cpu", "memory", "disk",
    "gpu", "created_at", "last_activity_at", "auto_destroy_at",
)  # fmt: skip
_COLUMNS = (*_FIRST_COLUMNS, "organization_id", "warm_pool_id")
_SCHEMA = f"""
CREATE TABLE sandbox (
  {", ".join(f"{name} {'TEXT PRIMARY KEY' if name == 'id' else ''}" for name in _FIRST_COLUMNS)},
  labels TEXT NOT NULL, document BLOB NOT NULL
);
CREATE UNIQUE INDEX sandbox_name ON sandbox (name);
CREATE INDEX sandbox_created ON sandbox (created_at, id);
CREATE INDEX sandbox_active ON sandbox (last_activity_at, id);
"""
_GRANT_SCHEMA = """
CREATE TABLE access_grant (
  digest TEXT PRIMARY KEY, kind TEXT NOT NULL, sandbox_id TEXT NOT NULL, expires_at TEXT NOT NULL,
  document BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX grant_sandbox ON access_grant (sandbox_id);
"""
_DOCUMENT_SCHEMA = """
CREATE TABLE document (
  kind TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, created_at TEXT NOT NULL, document BLOB NOT NULL,
  PRIMARY KEY (kind, id), UNIQUE (kind, name)
) WITHOUT ROWID;
"""
_ACCOUNT_SCHEMA = """
ALTER TABLE sandbox ADD COLUMN organization_id TEXT NOT NULL DEFAULT 'local';
ALTER TABLE sandbox ADD COLUMN warm_pool_id TEXT;
DROP INDEX sandbox_name;
DROP INDEX sandbox_created;
DROP INDEX sandbox_active;
CREATE UNIQUE INDEX sandbox_name ON sandbox (name, organization_id);
CREATE INDEX sandbox_created ON sandbox (organization_id, created_at, id);
CREATE INDEX sandbox_active ON sandbox (organization_id, last_activity_at, id);
ALTER TABLE document RENAME TO document_before;
CREATE TABLE document (
  kind TEXT NOT NULL, id TEXT NOT NULL, organization_id TEXT NOT NULL, name TEXT NOT NULL, created_at TEXT NOT NULL,
  document BLOB NOT NULL, PRIMARY KEY (kind, id), UNIQUE (kind, name, organization_id)
) WITHOUT ROWID;
INSERT INTO document (kind, id, organization_id, name, created_at, document)
  SELECT kind, id, CASE WHEN json_extract(CAST(document AS TEXT), '$.general') THEN ''
    ELSE json_extract(CAST(document AS TEXT), '$.organization_id') END, name, created_at, document FROM document_before;
DROP TABLE document_before;
"""
_STEPS = (_SCHEMA, _GRANT_SCHEMA, _DOCUMENT_SCHEMA, _ACCOUNT_SCHEMA + HISTORY_SCHEMA)
"""What each layout adds to the one before it."""


class Contended(Conflict):
    """Another replica of the control plane has changed a sandbox meanwhile."""

    code = "CONTENDED"


class StoreError(Exception):
    """The state cannot be used, said in one line."""


class Document(Protocol):
    """A small thing that is remembered whole: a snapshot, a volume, a secret, a key."""

    @property
    def id(self) -> str:
        """Never given twice."""

    @property
    def name(self) -> str:
        """Unique among its kind and organisation."""

    @property
    def organization_id(self) -> str:
        """Whose it is; only they find it. `EVERYBODY` for what all find."""

    @property
    def created_at(self) -> str:
        """RFC 3339 in UTC."""


D = TypeVar("D", bound=Document)
Follower = Callable[[Record | None, Record | None], None]
"""Called with a sandbox as it was (None: new) and as it is (None: gone)."""


class Collection(Protocol[D]):
    """All documents of one kind."""

    async def add(self, document: D) -> None:
        """Remember a new document. Raises `Conflict` when its name is taken."""

    async def save(self, document: D) -> None:
        """Replace a document; one that is not there any more stays away."""

    async def remove(self, document_id: str) -> None:
        """Forget a document."""

    async def find(self, id_or_name: str) -> D | None:
        """Return the document with this id, else the one with this name."""

    async def all(self) -> list[D]:
        """Return all documents, newest first."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` when other replicas of the control plane have changed documents."""


class Repository(Protocol):
    """The memory of the control plane; a cluster's own objects can serve as well as a database.

    What is looked up for a caller is found only if it is their organisation's (`callers`).
    """

    async def add(self, record: Record) -> Record:
        """Remember a new sandbox and return it as it is remembered. Raises `Conflict` when its name is taken."""

    async def save(self, record: Record) -> Record:
        """Replace what is remembered of a sandbox, and return that; its last activity stays.

        Raises `Conflict` (the name), and `Contended` when another replica has changed the sandbox meanwhile.
        """

    async def remove(self, sandbox_id: str) -> None:
        """Forget a sandbox, and what was granted for it."""

    async def find(self, id_or_name: str) -> Record | None:
        """Return the sandbox with this id, else the one with this name."""

    def peek(self, sandbox_id: str) -> Record | None:
        """Return a sandbox if that takes no time (where replicas share them); None says nothing."""

    async def at_rest(self, sandbox_id: str) -> Record | None:
        """Return a sandbox as it is now, once no other replica is at work on it. Raises `Conflict` if one stays so."""

    async def everything(self) -> list[Record]:
        """Return all sandboxes, of all organisations."""

    async def page(self, listing: Listing, *, offset: int = 0) -> list[Record]:
        """Return the listed sandboxes, at most `listing.limit`."""

    async def count(self, wanted: Filter) -> int:
        """Return how many sandboxes there are."""

    async def touch(self, moments: Mapping[str, str]) -> None:
        """Remember the last activity of sandboxes: id -> time."""

    def collection(self, kind: str, type_: type[D]) -> "Collection[D]":
        """Return the documents of a kind."""

    def follow(self, follower: "Follower") -> None:
        """Tell `follower` of every change that other replicas or the cluster make; it may hear of our own too."""


class SqliteCollection(Generic[D]):
    """The documents of one kind in a SQLite repository."""

    def __init__(self, repository: "SqliteRepository", kind: str, type_: type[D]) -> None:
        self._repository = repository
        self._kind = kind
        self._type = type_

    async def add(self, document: D) -> None:
        """Remember a new document. Raises `Conflict` when its name is taken."""
        try:
            await self._repository.execute(
                "INSERT INTO document (kind, id, organization_id, name, created_at, document) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(self._kind, document.id, document.organization_id, document.name, document.created_at),
                    msgspec.json.encode(document),
                ),
            )
        except sqlite3.IntegrityError:
            raise Conflict(f"a {self._kind} named {document.name} already exists") from None

    async def save(self, document: D) -> None:
        """Replace a document; one that is not there any more stays away."""
        try:
            await self._repository.execute(
                "UPDATE document SET name = ?, document = ? WHERE kind = ? AND id = ?",
                (document.name, msgspec.json.encode(document), self._kind, document.id),
            )
        except sqlite3.IntegrityError:
            raise Conflict(f"a {self._kind} named {document.name} already exists") from None

    async def remove(self, document_id: str) -> None:
        """Forget a document."""
        await self._repository.execute("DELETE FROM document WHERE kind = ? AND id = ?", (self._kind, document_id))

    async def find(self, id_or_name: str) -> D | None:
        """Return the document with this id, else the one with this name."""
        rows = await self._repository.execute(
            "SELECT document FROM document WHERE kind = ?1 AND (id = ?2 OR name = ?2) "
            "AND (?3 IS NULL OR organization_id IN (?3, ?4)) ORDER BY id = ?2 DESC, organization_id DESC LIMIT 1",
            (self._kind, id_or_name, visible_organization(), EVERYBODY),
        )
        return msgspec.json.decode(rows[0][0], type=self._type) if rows else None

    async def all(self) -> list[D]:
        """Return all documents, newest first."""
        rows = await self._repository.execute(
            "SELECT document FROM document WHERE kind = ?1 AND (?2 IS NULL OR organization_id IN (?2, ?3)) "
            "ORDER BY created_at DESC, id",
            (self._kind, visible_organization(), EVERYBODY),
        )
        return [msgspec.json.decode(row[0], type=self._type) for row in rows]

    def watch(self, changed: Callable[[], None]) -> None:
        """Do nothing: there are no other replicas."""


class SqliteRepository:
    """The repository in one SQLite file (WAL), used by one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: aiosqlite.Connection | None = None

    async def __aenter__(self) -> Self:
        self._database = await aiosqlite.connect(self._path, isolation_level=None)
        try:
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 5000"):
                await self.execute(f"PRAGMA {pragma}")
            await self._migrate()
        except sqlite3.DatabaseError as error:
            await self._database.close()
            raise StoreError(f"cannot use {self._path}: {error}") from None
        except StoreError:
            await self._database.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._database is not None:
            await self._database.close()
            self._database = None

    async def _migrate(self) -> None:
        ((version,),) = await self.execute("PRAGMA user_version")
        if version == SCHEMA_VERSION:
            return
        if version > SCHEMA_VERSION:
            raise StoreError(f"{self._path} was written by a newer version (layout {version})")
        assert self._database is not None  # noqa: S101 -- entered
        steps = "".join(_STEPS[version:])
        await self._database.executescript(f"BEGIN; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    async def execute(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        """Run one statement and return its rows."""
        assert self._database is not None  # noqa: S101 -- entered
        return list(await self._database.execute_fetchall(statement, tuple(values)))

    async def execute_many(self, statement: str, values: Iterable[Iterable[Any]]) -> None:
        """Run one statement for each of `values`."""
        assert self._database is not None  # noqa: S101 -- entered
        await self._database.executemany(statement, values)

    async def add(self, record: Record) -> Record:
        """Remember a new sandbox. Raises `Conflict` when its name is taken."""
        columns = (*_COLUMNS, "labels", "document")
        try:
            await self.execute(
                f"INSERT INTO sandbox ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
                _row(record),
            )
        except sqlite3.IntegrityError:
            raise Conflict(f"a sandbox named {record.name} already exists") from None
        return record

    async def save(self, record: Record) -> Record:
        """Replace what is remembered of a sandbox; its last activity stays."""
        kept = ("id", "last_activity_at")
        named = dict(zip((*_COLUMNS, "labels", "document"), _row(record), strict=True))
        changes = {name: value for name, value in named.items() if name not in kept}
        try:
            await self.execute(
                f"UPDATE sandbox SET {', '.join(f'{name} = ?' for name in changes)} WHERE id = ?",  # noqa: S608 -- our names
                (*changes.values(), record.id),
            )
        except sqlite3.IntegrityError:
            raise Conflict(f"a sandbox named {record.name} already exists") from None
        return record

    async def remove(self, sandbox_id: str) -> None:
        """Forget a sandbox, and what was granted for it."""
        await self.execute("DELETE FROM access_grant WHERE sandbox_id = ?", (sandbox_id,))
        await self.execute("DELETE FROM sample WHERE sandbox_id = ?", (sandbox_id,))
        await self.execute("DELETE FROM sandbox WHERE id = ?", (sandbox_id,))

    async def find(self, id_or_name: str) -> Record | None:
        """Return the sandbox with this id, else the one with this name."""
        rows = await self.execute(
            "SELECT document, last_activity_at FROM sandbox WHERE (id = ?1 OR name = ?1) "
            "AND (?2 IS NULL OR organization_id = ?2) ORDER BY id = ?1 DESC LIMIT 1",
            (id_or_name, visible_organization()),
        )
        return _record(rows[0]) if rows else None

    def peek(self, sandbox_id: str) -> Record | None:
        """Return nothing: a database takes its time."""
        del sandbox_id
        return None

    async def at_rest(self, sandbox_id: str) -> Record | None:
        """Return a sandbox: there are no other replicas."""
        return await self.find(sandbox_id)

    async def everything(self) -> list[Record]:
        """Return all sandboxes."""
        return [_record(row) for row in await self.execute("SELECT document, last_activity_at FROM sandbox")]

    async def page(self, listing: Listing, *, offset: int = 0) -> list[Record]:
        """Return the listed sandboxes, at most `listing.limit`."""
        condition, values = _condition(listing.filter)
        direction = "DESC" if listing.descending else "ASC"
        if (after := listing.after) is not None:
            condition += f" AND ({listing.sort}, id) {'<' if listing.descending else '>'} (?, ?)"
            values += [after.value, after.id]
        rows = await self.execute(
            f"SELECT document, last_activity_at FROM sandbox WHERE {condition} "  # noqa: S608 -- our names
            f"ORDER BY {listing.sort} {direction}, id {direction} LIMIT ? OFFSET ?",
            [*values, listing.limit, offset],
        )
        return [_record(row) for row in rows]

    async def count(self, wanted: Filter) -> int:
        """Return how many sandboxes there are."""
        condition, values = _condition(wanted)
        ((number,),) = await self.execute(f"SELECT count(*) FROM sandbox WHERE {condition}", values)  # noqa: S608
        return int(number)

    async def touch(self, moments: Mapping[str, str]) -> None:
        """Remember the last activity of sandboxes: id -> time."""
        await self.execute_many(
            "UPDATE sandbox SET last_activity_at = ? WHERE id = ?",
            [(moment, sandbox_id) for sandbox_id, moment in moments.items()],
        )

    def collection(self, kind: str, type_: type[D]) -> SqliteCollection[D]:
        """Return the documents of a kind."""
        return SqliteCollection(self, kind, type_)

    def follow(self, follower: Follower) -> None:
        """Do nothing: there are no other replicas."""

    async def add_grant(self, grant: Grant) -> None:
        """Remember a grant."""
        await self.execute(
            "INSERT INTO access_grant (digest, kind, sandbox_id, expires_at, document) VALUES (?, ?, ?, ?, ?)",
            (grant.digest, grant.kind, grant.sandbox_id, grant.expires_at, msgspec.json.encode(grant)),
        )

    async def find_grant(self, digest: str) -> Grant | None:
        """Return the grant of a token with this digest."""
        rows = await self.execute("SELECT document FROM access_grant WHERE digest = ?", (digest,))
        return msgspec.json.decode(rows[0][0], type=Grant) if rows else None

    async def remove_grants(self, sandbox_id: str, kind: Kind, digest: str | None = None) -> None:
        """Forget the grants of one kind for a sandbox, or the one with this digest."""
        await self.execute(
            "DELETE FROM access_grant WHERE sandbox_id = ?1 AND kind = ?2 AND (?3 IS NULL OR digest = ?3)",
            (sandbox_id, kind, digest),
        )

    async def remove_expired(self, now: str) -> None:
        """Forget what expired before `now`."""
        await self.execute("DELETE FROM access_grant WHERE expires_at < ?", (now,))


def _row(record: Record) -> list[Any]:
    return [
        *(getattr(record, name) for name in _COLUMNS),
        msgspec.json.encode(record.labels).decode(),
        msgspec.json.encode(record),
    ]


def _record(row: tuple[bytes, str]) -> Record:
    document, last_activity_at = row
    return msgspec.structs.replace(msgspec.json.decode(document, type=Record), last_activity_at=last_activity_at)


def _condition(wanted: Filter) -> tuple[str, list[Any]]:
    """Return the SQL condition for `wanted` and its values. Column names come from us, never from a client."""
    terms: list[str] = ["warm_pool_id IS NULL"]
    values: list[Any] = []
    organization = visible_organization()

    def need(term: str, *given: Any) -> None:
        terms.append(term)
        values.extend(given)

    if organization is not None:
        need("organization_id = ?", organization)
    for column, prefix in (("id", wanted.id_prefix), ("name", wanted.name_prefix)):
        if prefix:
            need(f"lower(substr({column}, 1, ?)) = lower(?)", len(prefix), prefix)
    for name, value in wanted.labels.items():
        need("EXISTS (SELECT 1 FROM json_each(labels) AS label WHERE label.key = ? AND label.value = ?)", name, value)
    for column, allowed in wanted.one_of.items():
        need(f"{column} IN ({', '.join('?' * len(allowed))})", *allowed)
    for column, bound in wanted.at_least.items():
        need(f"{column} >= ?", bound)
    for column, bound in wanted.at_most.items():
        need(f"{column} <= ?", bound)
    for column, flag in wanted.equal.items():
        need(f"{column} = ?", flag)
    return " AND ".join(terms), values
