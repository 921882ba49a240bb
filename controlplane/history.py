"""What was done and what was used, in the order of time: only ever added to, and cut off by age."""

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

SCHEMA = """
CREATE TABLE audit (
  number INTEGER PRIMARY KEY AUTOINCREMENT, created_at TEXT NOT NULL, organization_id TEXT NOT NULL,
  actor_id TEXT NOT NULL, action TEXT NOT NULL, target_type TEXT, target_id TEXT, status_code INTEGER,
  document BLOB NOT NULL
);
CREATE INDEX audit_created ON audit (organization_id, created_at);
CREATE TABLE sample (
  sandbox_id TEXT NOT NULL, at TEXT NOT NULL, document BLOB NOT NULL, PRIMARY KEY (sandbox_id, at)
) WITHOUT ROWID;
CREATE INDEX sample_age ON sample (at);
"""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did, and what came of it. Times are RFC 3339 in UTC."""

    id: str
    created_at: str
    organization_id: str
    actor_id: str
    actor_email: str = ""
    actor_api_key_prefix: str | None = None
    actor_api_key_suffix: str | None = None
    action: str
    target_type: str | None = None
    target_id: str | None = None
    status_code: int | None = None
    """Of the answer; None for what the control plane did by itself."""
    error_message: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    source: str | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries."""

    organization_id: str
    equal: dict[str, str | int] = {}
    """`actor_id`, `action`, `target_type`, `target_id` or `status_code` -> the value it must have."""
    since: str | None = None
    until: str | None = None
    before: int | None = None
    """Only entries with a lower number."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a sandbox uses, as its daemon says; sizes in bytes."""

    cpu_count: int
    cpu_used_pct: float
    mem_total: int
    mem_used: int
    mem_cache: int
    disk_total: int
    disk_used: int


class Sample(Usage, frozen=True, kw_only=True, rename="camel"):
    """What a sandbox used at one time."""

    sandbox_id: str
    at: str


class Statements(Protocol):
    """A database."""

    async def execute(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        """Run one statement and return its rows."""

    async def execute_many(self, statement: str, values: Iterable[Iterable[Any]]) -> None:
        """Run one statement for each of `values`."""


class History(Protocol):
    """The two logs."""

    async def add_entry(self, entry: Entry) -> None:
        """Write an entry of the audit log; none is ever changed."""

    async def entries(self, wanted: Wanted, *, limit: int, offset: int) -> tuple[list[tuple[int, Entry]], int]:
        """Return entries with their numbers, the latest first, and how many there are in all. Raises `BadRequest`."""

    async def add_samples(self, samples: Iterable[Sample]) -> None:
        """Remember what sandboxes used."""

    async def samples(self, sandbox_id: str, since: str, until: str) -> list[Sample]:
        """Return what a sandbox used, oldest first. Raises `BadRequest`."""

    async def cut(self, *, entries_before: str, samples_before: str) -> None:
        """Forget what is older."""


class SqliteHistory:
    """The two logs in a SQLite database."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    async def add_entry(self, entry: Entry) -> None:
        """Write an entry of the audit log; none is ever changed."""
        await self._database.execute(
            "INSERT INTO audit (created_at, organization_id, actor_id, action, target_type, target_id, status_code, "
            "document) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(entry.created_at, entry.organization_id, entry.actor_id, entry.action, entry.target_type),
                *(entry.target_id, entry.status_code, msgspec.json.encode(entry)),
            ),
        )

    async def entries(self, wanted: Wanted, *, limit: int, offset: int) -> tuple[list[tuple[int, Entry]], int]:
        """Return entries with their numbers, the latest first, and how many there are in all."""
        condition, values = _condition(wanted)
        rows = await self._database.execute(
            f"SELECT number, document FROM audit WHERE {condition} AND (? IS NULL OR number < ?) "  # noqa: S608 -- our names
            "ORDER BY number DESC LIMIT ? OFFSET ?",
            [*values, wanted.before, wanted.before, limit, offset],
        )
        ((total,),) = await self._database.execute(f"SELECT count(*) FROM audit WHERE {condition}", values)  # noqa: S608
        return [(number, msgspec.json.decode(document, type=Entry)) for number, document in rows], int(total)

    async def add_samples(self, samples: Iterable[Sample]) -> None:
        """Remember what sandboxes used."""
        await self._database.execute_many(
            "INSERT OR REPLACE INTO sample (sandbox_id, at, document) VALUES (?, ?, ?)",
            [(each.sandbox_id, each.at, msgspec.json.encode(each)) for each in samples],
        )

    async def samples(self, sandbox_id: str, since: str, until: str) -> list[Sample]:
        """Return what a sandbox used, oldest first."""
        rows = await self._database.execute(
            "SELECT document FROM sample WHERE sandbox_id = ? AND at BETWEEN ? AND ? ORDER BY at",
            (sandbox_id, since, until),
        )
        return [msgspec.json.decode(row[0], type=Sample) for row in rows]

    async def cut(self, *, entries_before: str, samples_before: str) -> None:
        """Forget what is older."""
        await self._database.execute("DELETE FROM audit WHERE created_at < ?", (entries_before,))
        await self._database.execute("DELETE FROM sample WHERE at < ?", (samples_before,))


def _condition(wanted: Wanted) -> tuple[str, list[Any]]:
    """Return the SQL condition for `wanted` and its values. Column names come from us, never from a client."""
    terms: list[str] = ["organization_id = ?"]
    values: list[Any] = [wanted.organization_id]
    for column, value in wanted.equal.items():
        terms.append(f"{column} = ?")
        values.append(value)
    for comparison, moment in ((">=", wanted.since), ("<=", wanted.until)):
        if moment is not None:
            terms.append(f"created_at {comparison} ?")
            values.append(moment)
    return " AND ".join(terms), values
