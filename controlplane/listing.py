"""Which sandboxes a list shows, in which order, and where its next page begins."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from controlplane.models import ListQuery, Record
from toolbox.errors import BadRequest

MAX_LIMIT = 200

SORTS = {
    "name": "name",
    "cpu": "cpu",
    "memoryGib": "memory",
    "diskGib": "disk",
    "lastActivityAt": "last_activity_at",
    "createdAt": "created_at",
}
"""What lists can be sorted by: wire name -> field of a record."""


class Filter(msgspec.Struct, kw_only=True, frozen=True):
    """What a listed sandbox must be. Empty means anything."""

    id_prefix: str = ""
    name_prefix: str = ""
    labels: dict[str, str] = {}
    one_of: dict[str, list[str]] = {}
    """field -> the values it may have"""
    at_least: dict[str, float | str] = {}
    at_most: dict[str, float | str] = {}
    equal: dict[str, bool] = {}

    def matches(self, record: Record) -> bool:
        """Tell whether a sandbox is one of those; one that waits in a warm pool never is."""
        return (
            record.warm_pool_id is None
            and record.id.lower().startswith(self.id_prefix.lower())
            and record.name.lower().startswith(self.name_prefix.lower())
            and all(record.labels.get(name) == value for name, value in self.labels.items())
            and all(getattr(record, field) in allowed for field, allowed in self.one_of.items())
            and all(_known(record, field) and getattr(record, field) >= least for field, least in self.at_least.items())
            and all(_known(record, field) and getattr(record, field) <= most for field, most in self.at_most.items())
            and all(getattr(record, field) == flag for field, flag in self.equal.items())
        )


class Position(msgspec.Struct, kw_only=True, frozen=True):
    """The place in a sorted list after which the next page begins."""

    sort: str
    descending: bool
    value: int | str
    id: str

    def cursor(self) -> str:
        """Return the position as clients carry it."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


class Listing(msgspec.Struct, kw_only=True, frozen=True):
    """One page asked for."""

    filter: Filter
    sort: str
    descending: bool
    limit: int
    after: Position | None = None

    @classmethod
    def parse(cls, query: ListQuery, repeated: Mapping[str, Sequence[str]]) -> "Listing":
        """Check what a client asks for; `repeated` holds the values of repeatable keys. Raises `BadRequest`."""
        sort, order = query.sort or "createdAt", query.order or ("asc" if query.sort else "desc")
        if sort not in SORTS:
            raise BadRequest(f"sort: must be one of {', '.join(SORTS)}")
        if order not in ("asc", "desc"):
            raise BadRequest("order: must be asc or desc")
        if not 1 <= query.limit <= MAX_LIMIT:
            raise BadRequest(f"limit: must be from 1 to {MAX_LIMIT}")
        listing = cls(filter=_filter(query, repeated), sort=SORTS[sort], descending=order == "desc", limit=query.limit)
        if not query.cursor:
            return listing
        after = read_cursor(query.cursor, sort=listing.sort, descending=listing.descending)
        return msgspec.structs.replace(listing, after=after)

    def position(self, record: Record) -> Position:
        """Return the place of `record` in this list."""
        return Position(sort=self.sort, descending=self.descending, value=getattr(record, self.sort), id=record.id)


def _known(record: Record, field: str) -> bool:
    return getattr(record, field) is not None


def parse_labels(text: str | None) -> dict[str, str]:
    """Decode the `labels` query value; older Python SDKs send `null` for none. Raises `BadRequest`."""
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str] | None) or {}
    except msgspec.MsgspecError as error:
        raise BadRequest(f"labels: must be a JSON object of strings: {error}") from None


def _filter(query: ListQuery, repeated: Mapping[str, Sequence[str]]) -> Filter:
    one_of = {
        "state": repeated.get("states", ()),
        "snapshot": repeated.get("snapshots", ()),
        "target": repeated.get("regionIds", ()),
        "sandbox_class": repeated.get("sandboxClasses", ()),
    }
    at_least = {
        "cpu": query.min_cpu,
        "memory": query.min_memory,
        "disk": query.min_disk,
        "gpu": query.min_gpu,
        "created_at": parse_time(query.created_at_after, "createdAtAfter"),
        "last_activity_at": parse_time(query.last_event_after, "lastEventAfter"),
        "auto_destroy_at": parse_time(query.auto_destroy_at_after, "autoDestroyAtAfter"),
    }
    at_most = {
        "cpu": query.max_cpu,
        "memory": query.max_memory,
        "disk": query.max_disk,
        "gpu": query.max_gpu,
        "created_at": parse_time(query.created_at_before, "createdAtBefore"),
        "last_activity_at": parse_time(query.last_event_before, "lastEventBefore"),
        "auto_destroy_at": parse_time(query.auto_destroy_at_before, "autoDestroyAtBefore"),
    }
    equal = {"public": query.is_public, "recoverable": query.is_recoverable}
    return Filter(
        id_prefix=query.id or "",
        name_prefix=query.name or "",
        labels=parse_labels(query.labels),
        one_of={name: list(values) for name, values in one_of.items() if values},
        at_least={name: value for name, value in at_least.items() if value is not None},
        at_most={name: value for name, value in at_most.items() if value is not None},
        equal={name: value for name, value in equal.items() if value is not None},
    )


def parse_time(text: str | None, name: str) -> str | None:
    """Return a time as records have it, None for none. Raises `BadRequest`."""
    if not text:
        return None
    try:
        # A plus sign that was not percent-encoded arrives as a space.
        moment = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest(f"{name}: not a time: {text!r}") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_cursor(cursor: str, *, sort: str, descending: bool) -> Position:
    """Return the place in a list, sorted by `sort`, that a client's cursor stands for. Raises `BadRequest`."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        after = msgspec.json.decode(data, type=Position)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise BadRequest("cursor: not one of this server's") from None
    if (after.sort, after.descending) != (sort, descending):
        raise BadRequest("cursor: belongs to a list in another order")
    return after
