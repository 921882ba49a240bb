"""The memory of the control plane in a cluster: a sandbox's record is an annotation of what stands for it.

Every write of a record is a compare-and-swap on its revision, so that of two replicas that act on one sandbox only one
does; the other is told to look again.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol, Self

import msgspec

from controlplane.callers import visible_organization
from controlplane.cluster.api import Cluster
from controlplane.cluster.documents import ClusterCollection, Documents
from controlplane.cluster.fleet import AT_WORK, Entry, Fleet
from controlplane.cluster.kinds import CLAIM, CONFIG_MAP, Held, Kind
from controlplane.cluster.leases import Leases
from controlplane.cluster.names import (
    ACTIVE_AT,
    DOCUMENT_ID,
    HOLDER,
    KIND,
    MANAGED,
    NAME,
    RECORD,
    REVISION,
    SANDBOX_ID,
    STATE,
    digest_name,
    sandbox_name,
)
from controlplane.grants import Grant
from controlplane.grants import Kind as GrantKind
from controlplane.listing import Filter, Listing
from controlplane.models import Record
from controlplane.store import Contended, D
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError, Unavailable
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

WRITE_ACTIVITY_SECONDS = 20.0
"""How often the last activity of one sandbox is written at most."""
_WRITES_AT_ONCE = 16
_TURN_SECONDS = 120.0
_MAX_RECORD = 200_000
"""Bytes; the API server takes 256 KiB of annotations."""
_UNOWNED_SECONDS = 60.0
_LABEL_LENGTH = 63
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What sandboxes' ids look like: nothing else is asked the API server for."""
_RESERVED, _GRANT = "sandbox_name", "grant"


class Shape(Protocol):
    """Says what stands for a sandbox in the cluster."""

    def manifest(self, record: Record) -> tuple[Kind[Any], dict[str, Any]]:
        """Return the object that is made for a new sandbox, without its metadata. Raises `ToolboxError`."""


class ClusterRepository:
    """All that the control plane remembers, in the objects of one namespace."""

    def __init__(self, cluster: Cluster, fleet: Fleet, documents: Documents, leases: Leases, shape: Shape) -> None:
        self._cluster = cluster
        self._fleet = fleet
        self._documents = documents
        self._leases = leases
        self._shape = shape
        self._tasks = TaskSet()
        self._unwritten: dict[str, str] = {}
        self._written_at: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        self._fleet.follow(self._gone)
        self._tasks.start(self._write_activity_forever(), "activity of sandboxes")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        await self._write_activity(everything=True)

    async def add(self, record: Record) -> Record:
        """Remember a new sandbox, by making what stands for it. Raises `Conflict` when its name is taken."""
        kind, manifest = self._shape.manifest(record)
        if record.name != record.id:
            await self._reserve(record)
        record = msgspec.structs.replace(record, revision=1)
        metadata = {
            "name": sandbox_name(record.id),
            "labels": {**MANAGED, SANDBOX_ID: record.id, **_labels(record)},
            "annotations": self._annotations(record),
        }
        try:
            self._fleet.put(kind, await self._cluster.create(kind, {"metadata": metadata, **manifest}))
        except ToolboxError:
            await self._release(record)
            raise
        return record

    async def save(self, record: Record) -> Record:
        """Replace what is remembered of a sandbox. Raises `Contended` if it was changed meanwhile, `NotFound`."""
        entry = self._fleet.get(record.id)
        if entry is None:
            raise NotFound(f"sandbox not found: {record.id}")
        saved = msgspec.structs.replace(record, revision=record.revision + 1)
        at = "/metadata/annotations/sandbox-toolbox.dev~1"
        annotations = self._annotations(saved)
        changes: list[dict[str, Any]] = [{"op": "test", "path": f"{at}revision", "value": str(record.revision)}]
        changes += [
            {"op": "add", "path": f"{at}{name.partition('/')[2]}", "value": value}
            for name, value in annotations.items()
        ]
        changes += [
            {"op": "add", "path": f"/metadata/labels/sandbox-toolbox.dev~1{name.partition('/')[2]}", "value": value}
            for name, value in _labels(saved).items()
        ]
        if saved.auto_destroy_at != entry.record.auto_destroy_at:
            changes += _shutdown(entry.kind, saved.auto_destroy_at)
        found = await self._cluster.patch(entry.kind, entry.metadata.name, changes)
        self._fleet.put(entry.kind, found)
        self._written_at[record.id] = time.monotonic()  # its last activity is in the record too
        return saved

    async def remove(self, sandbox_id: str) -> None:
        """Forget a sandbox, and what was granted for it."""
        entry = self._fleet.get(sandbox_id)
        await self._clear_up(sandbox_id)
        if entry is not None:
            await self._cluster.delete(entry.kind, entry.metadata.name, uid=entry.metadata.uid)
            # The watch says so too, but perhaps later than this replica is asked.
            self._fleet.drop(entry)

    async def _clear_up(self, sandbox_id: str) -> None:
        """Remove what was kept for a sandbox: its name, what was granted. Raises `ToolboxError`."""
        for held in self._config_maps:
            labels = held.metadata.labels
            if labels.get(SANDBOX_ID) == sandbox_id and labels.get(KIND) in (_RESERVED, _GRANT):
                await self._delete(held)

    def _gone(self, before: Entry | None, after: Entry | None) -> None:
        """Clear up after sandboxes that somebody else removed (a follower of the fleet)."""
        if after is not None or before is None:
            return
        self._unwritten.pop(before.id, None)
        self._written_at.pop(before.id, None)
        if self._leases.is_leader:
            self._tasks.start(self._clear_up_after(before.id), f"what was kept for {before.id}")

    async def _clear_up_after(self, sandbox_id: str) -> None:
        try:
            await self._clear_up(sandbox_id)
        except ToolboxError as error:
            # `tidy` tries again.
            log.warning("names and grants stay", extra={"fields": {"sandbox": sandbox_id, "why": error.message}})

    async def find(self, id_or_name: str) -> Record | None:
        """Return the sandbox with this id, else the one with this name."""
        found = self._known(id_or_name)
        if found is not None and found.state in AT_WORK:
            # Another replica may be through with it by now.
            entry = self._fleet.get(found.id)
            if entry is not None and entry.holder != self._leases.me:
                with suppress(Unavailable):
                    await self._fleet.fresh(found.id)
                found = self._known(id_or_name)
        elif found is None:
            # Another replica may just have made it.
            organization, sandbox_id = visible_organization(), id_or_name
            if organization is not None:
                held = await self._cluster.get(CONFIG_MAP, _reservation(organization, id_or_name))
                sandbox_id = held.data.get("sandbox", "") if held is not None else id_or_name
            if _ID.fullmatch(sandbox_id):
                await self._fleet.fresh(sandbox_id)
                found = self._known(id_or_name)
        return found

    def _known(self, id_or_name: str) -> Record | None:
        organization = visible_organization()
        entry = self._fleet.get(id_or_name)
        if entry is not None and organization in (None, entry.record.organization_id):
            return entry.record
        if organization is not None:
            entry = self._fleet.named(organization, id_or_name)
            return entry.record if entry is not None else None
        return next((each.record for each in self._fleet if each.record.name == id_or_name), None)

    def peek(self, sandbox_id: str) -> Record | None:
        """Return a sandbox as it was last seen."""
        entry = self._fleet.get(sandbox_id)
        return entry.record if entry is not None else None

    async def at_rest(self, sandbox_id: str) -> Record | None:
        """Return a sandbox as it is, once no other replica is at work on it. Raises `Conflict` if that takes long."""
        deadline = time.monotonic() + _TURN_SECONDS
        while True:
            entry = await self._fleet.fresh(sandbox_id)
            if entry is None or not self._is_held(entry):
                return self._known(sandbox_id) if entry is not None else None
            try:
                # The end of a dead replica's lease is no news of the sandbox: look now and then.
                async with asyncio.timeout(1.0):
                    await self._fleet.changes(sandbox_id)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise Conflict(f"sandbox {entry.record.name} is {entry.record.state}") from None

    def _is_held(self, entry: Entry) -> bool:
        """Tell whether another replica is at work on a sandbox."""
        return (
            entry.record.state in AT_WORK
            and entry.holder not in ("", self._leases.me)
            and self._leases.is_alive(entry.holder)
        )

    async def everything(self) -> list[Record]:
        """Return all sandboxes."""
        return [each.record for each in self._fleet]

    async def page(self, listing: Listing, *, offset: int = 0) -> list[Record]:
        """Return the listed sandboxes, at most `listing.limit`."""
        found = [(getattr(each, listing.sort), each.id, each) for each in self._matching(listing.filter)]
        found.sort(key=lambda each: each[:2], reverse=listing.descending)
        if (after := listing.after) is not None:
            place = (after.value, after.id)
            found = [each for each in found if (each[:2] < place if listing.descending else each[:2] > place)]
        return [record for _, _, record in found[offset : offset + listing.limit]]

    async def count(self, wanted: Filter) -> int:
        """Return how many sandboxes there are."""
        return len(self._matching(wanted))

    def _matching(self, wanted: Filter) -> list[Record]:
        organization = visible_organization()
        return [
            each.record
            for each in self._fleet
            if organization in (None, each.record.organization_id) and wanted.matches(each.record)
        ]

    async def touch(self, moments: Mapping[str, str]) -> None:
        """Remember the last activity of sandboxes: id -> time; here at once, in the cluster now and then."""
        for sandbox_id, moment in moments.items():
            entry = self._fleet.get(sandbox_id)
            if entry is not None and entry.record.last_activity_at >= moment:
                continue  # it came with the record
            self._fleet.touch(sandbox_id, moment)
            self._unwritten[sandbox_id] = moment

    def collection(self, kind: str, type_: type[D]) -> ClusterCollection[D]:
        """Return the documents of a kind."""
        return ClusterCollection(self._documents, kind, type_)

    def follow(self, follower: Callable[[Record | None, Record | None], None]) -> None:
        """Tell `follower` of changes that other replicas, or the cluster, made: how a sandbox was, and how it is."""

        def changed(before: Entry | None, after: Entry | None) -> None:
            old, new = (each.record if each is not None else None for each in (before, after))
            if (old.revision if old is not None else 0) != (new.revision if new is not None else 0):
                follower(old, new)

        self._fleet.follow(changed)

    async def add_grant(self, grant: Grant) -> None:
        """Remember a grant."""
        name = digest_name(_GRANT, grant.digest)
        labels = {**MANAGED, KIND: _GRANT, DOCUMENT_ID: grant.id, SANDBOX_ID: grant.sandbox_id}
        body = {"metadata": {"name": name, "labels": labels}, "data": {"document": msgspec.json.encode(grant).decode()}}
        self._config_maps.put(await self._cluster.create(CONFIG_MAP, body))

    async def find_grant(self, digest: str) -> Grant | None:
        """Return the grant of a token with this digest."""
        name = digest_name(_GRANT, digest)
        held = self._config_maps.get(name) or await self._cluster.get(CONFIG_MAP, name)
        return _grant(held) if held is not None else None

    async def remove_grants(self, sandbox_id: str, kind: GrantKind, digest: str | None = None) -> None:
        """Forget the grants of one kind for a sandbox, or the one with this digest."""
        for held, grant in self._grants(sandbox_id):
            if grant.kind == kind and digest in (None, grant.digest):
                await self._delete(held)

    async def remove_expired(self, now: str) -> None:
        """Forget what expired before `now`."""
        for held, grant in self._grants():
            if grant.expires_at < now:
                await self._delete(held)

    async def tidy(self) -> None:
        """Remove what is kept for sandboxes which are not there (a replica died, or somebody removed them)."""
        for held in self._config_maps:
            if held.metadata.labels.get(KIND) in (_RESERVED, _GRANT) and await self._is_stale(held):
                await self._delete(held)

    def _grants(self, sandbox_id: str | None = None) -> list[tuple[Held, Grant]]:
        held = [
            each
            for each in self._config_maps
            if each.metadata.labels.get(KIND) == _GRANT and sandbox_id in (None, each.metadata.labels.get(SANDBOX_ID))
        ]
        return [(each, grant) for each in held if (grant := _grant(each)) is not None]

    @property
    def _config_maps(self) -> Any:
        return self._documents.kind_of(_GRANT)[1]

    async def _delete(self, held: Held) -> None:
        with suppress(Contended):  # there is another of that name by now
            await self._cluster.delete(CONFIG_MAP, held.metadata.name, uid=held.metadata.uid)
        self._config_maps.drop(held.metadata.name, held.metadata.uid)

    async def _reserve(self, record: Record) -> None:
        """Keep a name for a sandbox. Raises `Conflict` when it is taken."""
        name = _reservation(record.organization_id, record.name)
        labels = {**MANAGED, KIND: _RESERVED, SANDBOX_ID: record.id}
        body = {"metadata": {"name": name, "labels": labels}, "data": {"sandbox": record.id}}
        for _ in range(2):
            try:
                self._config_maps.put(await self._cluster.create(CONFIG_MAP, body))
            except Conflict:
                held = await self._cluster.get(CONFIG_MAP, name)
                if held is None or not await self._is_stale(held):
                    break
                await self._delete(held)
            else:
                return
        raise Conflict(f"a sandbox named {record.name} already exists")

    async def _is_stale(self, held: Held) -> bool:
        sandbox_id = held.metadata.labels.get(SANDBOX_ID, "")
        if self._fleet.get(sandbox_id) is not None:
            return False
        made = datetime.fromisoformat(held.metadata.creation_timestamp or "")
        if (datetime.now(UTC) - made).total_seconds() < _UNOWNED_SECONDS:
            return False
        return not await self._fleet.exists(sandbox_id)

    async def _release(self, record: Record) -> None:
        held = self._config_maps.get(_reservation(record.organization_id, record.name))
        if held is not None and held.data.get("sandbox") == record.id:
            await self._delete(held)

    def _annotations(self, record: Record) -> dict[str, str]:
        data = msgspec.json.encode(record)
        if len(data) > _MAX_RECORD:
            raise BadRequest(f"a sandbox's variables and labels are too large for a cluster: {len(data)} bytes")
        holder = self._leases.me if record.state in AT_WORK else ""
        return {RECORD: data.decode(), REVISION: str(record.revision), HOLDER: holder}

    async def _write_activity_forever(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._write_activity()

    async def _write_activity(self, *, everything: bool = False) -> None:
        now, limit = time.monotonic(), asyncio.Semaphore(_WRITES_AT_ONCE)

        async def write(sandbox_id: str, moment: str) -> None:
            entry = self._fleet.get(sandbox_id)
            if entry is None:
                return
            async with limit:
                try:
                    changes = {"metadata": {"annotations": {ACTIVE_AT: moment}}}
                    self._fleet.put(entry.kind, await self._cluster.patch(entry.kind, entry.metadata.name, changes))
                except NotFound:
                    return
                except ToolboxError as error:
                    log.warning("activity not written", extra={"fields": {"sandbox": sandbox_id, "why": error.message}})
                    self._unwritten.setdefault(sandbox_id, moment)

        due = {
            sandbox_id: moment
            for sandbox_id, moment in self._unwritten.items()
            if everything or now - self._written_at.get(sandbox_id, -WRITE_ACTIVITY_SECONDS) >= WRITE_ACTIVITY_SECONDS
        }
        for sandbox_id in due:
            self._unwritten.pop(sandbox_id, None)
            self._written_at[sandbox_id] = now
        await asyncio.gather(*(write(sandbox_id, moment) for sandbox_id, moment in due.items()))


def _labels(record: Record) -> dict[str, str]:
    """Return the labels that people see a sandbox by."""
    fits = len(record.name) <= _LABEL_LENGTH and record.name[-1].isalnum() and record.name.isascii()
    return {STATE: str(record.state), NAME: record.name if fits else ""}


def _grant(held: Held) -> Grant | None:
    """Read a grant; None for what somebody else has put there."""
    try:
        return msgspec.json.decode(held.data.get("document", ""), type=Grant)
    except msgspec.DecodeError as error:
        log.warning("not a grant of ours", extra={"fields": {"name": held.metadata.name, "why": str(error)}})
        return None


def _reservation(organization: str, name: str) -> str:
    return digest_name("sandbox-name", organization, name)


def _shutdown(kind: Kind[Any], moment: str | None) -> list[dict[str, Any]]:
    """Return the part of a JSON patch that lets the cluster itself remove a sandbox at a time."""
    if kind is CLAIM:
        lifecycle = {"shutdownTime": _whole_seconds(moment), "shutdownPolicy": "Delete"} if moment else {}
        return [{"op": "add", "path": "/spec/lifecycle", "value": lifecycle}]
    if moment is None:
        return [{"op": "add", "path": "/spec/shutdownTime", "value": None}]
    return [
        {"op": "add", "path": "/spec/shutdownTime", "value": _whole_seconds(moment)},
        {"op": "add", "path": "/spec/shutdownPolicy", "value": "Delete"},
    ]


def _whole_seconds(moment: str) -> str:
    return f"{moment.partition('.')[0]}Z" if "." in moment else moment
