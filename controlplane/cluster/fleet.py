"""Every sandbox of the namespace as the cluster has it: what stands for it, its pod, and what we remember of it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

import msgspec

from controlplane.cluster.api import Cluster
from controlplane.cluster.kinds import CLAIM, POD, SANDBOX, Claim, Condition, Kind, Metadata, Pod, Sandbox
from controlplane.cluster.mirror import Mirror
from controlplane.cluster.names import ACTIVE_AT, HOLDER, OURS, RECORD, REVISION, SANDBOX_ID, WORKLOAD, sandbox_name
from controlplane.models import Record
from controlplane.states import State

log = logging.getLogger(__name__)

S = TypeVar("S", Sandbox, Claim)
_SELECTOR = f"{OURS},{SANDBOX_ID}"
_PODS = f"{WORKLOAD}=sandbox"

AT_WORK = frozenset(State) - {
    *(State.STARTED, State.STOPPED, State.PAUSED, State.ARCHIVED, State.ERROR, State.BUILD_FAILED, State.DESTROYED),
}
"""States that a replica is bringing a sandbox out of."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One sandbox."""

    kind: Kind[Any]
    """What stands for it: a Sandbox, or a SandboxClaim for one from a warm pool."""
    metadata: Metadata
    record: Record
    revision: str
    holder: str
    """The replica at work on it, empty for none."""
    sandbox: str
    """Name of the Sandbox, and of its pod; empty as long as a claim has none."""
    ready: bool
    address: str
    """IP of its pod, empty for none."""
    reason: str
    message: str
    """What the controller says about its readiness."""
    suspended: bool
    """Whether it has no pod because it is to have none."""

    @property
    def id(self) -> str:
        """The sandbox's id."""
        return self.record.id


Follower = Callable[[Entry | None, Entry | None], None]
"""Called with a sandbox as it was (None: new) and as it is (None: gone)."""


class Fleet:
    """All sandboxes, kept up by watches."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sandboxes = Mirror(cluster, SANDBOX, _SELECTOR, self._sandbox_changed, kept=_without_record)
        self._claims = Mirror(cluster, CLAIM, _SELECTOR, self._claim_changed, kept=_without_record)
        self._pods = Mirror(cluster, POD, _PODS, self._pod_changed)
        self._entries: dict[str, Entry] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._by_sandbox: dict[str, str] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._followers: list[Follower] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for mirror in (self._pods, self._sandboxes, self._claims):
                await stack.enter_async_context(mirror)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def follow(self, follower: Follower) -> None:
        """Tell `follower` of everything that happens from now on."""
        self._followers.append(follower)

    def get(self, sandbox_id: str) -> Entry | None:
        """Return a sandbox as it was last seen."""
        return self._entries.get(sandbox_id)

    def named(self, organization: str, name: str) -> Entry | None:
        """Return the sandbox of that name."""
        return self._entries.get(self._names.get((organization, name), ""))

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def pod(self, entry: Entry) -> Pod | None:
        """Return the pod of a sandbox as it was last seen."""
        return self._pods.get(entry.sandbox) if entry.sandbox else None

    async def fresh(self, sandbox_id: str) -> Entry | None:
        """Return a sandbox as the API server has it now. Raises `ToolboxError`."""
        known, name = self._entries.get(sandbox_id), sandbox_name(sandbox_id)
        for kind in (known.kind,) if known is not None else (SANDBOX, CLAIM):
            found = await self._cluster.get(kind, name)
            if found is not None:
                self.put(kind, found)
                return self._entries.get(sandbox_id)
        if known is not None:
            self._mirror(known.kind).drop(name, known.metadata.uid)
        return None

    async def exists(self, sandbox_id: str) -> bool:
        """Tell whether the API server has an object for a sandbox, even one that cannot be read."""
        name = sandbox_name(sandbox_id)
        return await self._cluster.get(SANDBOX, name) is not None or await self._cluster.get(CLAIM, name) is not None

    def put(self, kind: Kind[Any], found: Any) -> None:
        """Take in what was just written or read."""
        self._mirror(kind).put(found)

    def drop(self, entry: Entry) -> None:
        """Take in that a sandbox was just removed."""
        self._mirror(entry.kind).drop(entry.metadata.name, entry.metadata.uid)

    def touch(self, sandbox_id: str, moment: str) -> None:
        """Take in that a sandbox was in use, before the cluster knows it."""
        entry = self._entries.get(sandbox_id)
        if entry is not None and entry.record.last_activity_at < moment:
            record = msgspec.structs.replace(entry.record, last_activity_at=moment)
            self._entries[sandbox_id] = msgspec.structs.replace(entry, record=record)

    async def changes(self, sandbox_id: str) -> None:
        """Return when something has happened to a sandbox or its pod since this was called."""
        await self._news.setdefault(sandbox_id, asyncio.Event()).wait()

    def _mirror(self, kind: Kind[Any]) -> Mirror[Any]:
        return self._claims if kind is CLAIM else self._sandboxes

    def _sandbox_changed(self, _: str, before: Sandbox | None, after: Sandbox | None) -> None:
        if after is None:
            self._forget(before)
            return
        ready = _condition(after.status.conditions, "Ready")
        self._remember(
            SANDBOX,
            after.metadata,
            ready,
            sandbox=after.metadata.name,
            ips=after.status.pod_ips,
            suspended=after.spec.operating_mode == "Suspended" and ready.reason == "SandboxSuspended",
        )

    def _claim_changed(self, _: str, before: Claim | None, after: Claim | None) -> None:
        if after is None:
            self._forget(before)
            return
        ready, bound = _condition(after.status.conditions, "Ready"), after.status.sandbox
        self._remember(
            CLAIM,
            after.metadata,
            ready,
            sandbox=bound.name,
            ips=bound.pod_ips,
            suspended=ready.reason == "SandboxSuspended",
        )

    def _remember(
        self, kind: Kind[Any], metadata: Metadata, ready: Condition, *, sandbox: str, ips: list[str], suspended: bool
    ) -> None:
        sandbox_id = metadata.labels.get(SANDBOX_ID, "")
        if metadata.name != sandbox_name(sandbox_id):
            return  # somebody else's: what we make is called so
        before, revision = self._entries.get(sandbox_id), metadata.annotations.get(REVISION, "")
        active = metadata.annotations.get(ACTIVE_AT, "")
        if before is not None and before.revision == revision:
            record = before.record
        else:
            try:
                record = _record(metadata, sandbox_id)
            except (KeyError, ValueError) as error:
                log.warning("not a sandbox of ours", extra={"fields": {"name": metadata.name, "why": str(error)}})
                return
        latest = max(record.last_activity_at, active, before.record.last_activity_at if before else "")
        entry = Entry(
            kind=kind,
            metadata=_slim(metadata),
            record=msgspec.structs.replace(record, last_activity_at=latest),
            revision=revision,
            holder=metadata.annotations.get(HOLDER, ""),
            sandbox=sandbox,
            ready=ready.status == "True" and bool(ips),
            address=ips[0] if ips else "",
            reason=ready.reason,
            message=ready.message,
            suspended=suspended,
        )
        self._entries[sandbox_id] = entry
        self._names[record.organization_id, record.name] = sandbox_id
        if sandbox:
            self._by_sandbox[sandbox] = sandbox_id
        self._tell(sandbox_id, before, entry)

    def _forget(self, gone: Sandbox | Claim | None) -> None:
        entry = self._entries.get(gone.metadata.labels.get(SANDBOX_ID, "")) if gone is not None else None
        if gone is None or entry is None or entry.metadata.uid != gone.metadata.uid:
            return
        del self._entries[entry.id]
        name = entry.record.organization_id, entry.record.name
        if self._names.get(name) == entry.id:  # there may be another of that name by now
            del self._names[name]
        self._by_sandbox.pop(entry.sandbox, None)
        self._tell(entry.id, entry, None)

    def _pod_changed(self, name: str, _: Pod | None, __: Pod | None) -> None:
        sandbox_id = self._by_sandbox.get(name)
        if sandbox_id is not None:
            entry = self._entries.get(sandbox_id)
            self._tell(sandbox_id, entry, entry)

    def _tell(self, sandbox_id: str, before: Entry | None, after: Entry | None) -> None:
        news = self._news.pop(sandbox_id, None)
        if news is not None:
            news.set()
        for follower in self._followers:
            try:
                follower(before, after)
            except Exception:  # its fault is not the watch's
                log.exception("a follower of sandboxes failed")


def _record(metadata: Metadata, sandbox_id: str) -> Record:
    """Read what is remembered of a sandbox. Raises `KeyError`, `ValueError` for what is not ours."""
    record = msgspec.json.decode(metadata.annotations[RECORD], type=Record)
    if record.id != sandbox_id:
        raise ValueError(f"the record of another sandbox: {record.id}")
    return record


def _without_record(found: S) -> S:
    """Return an object without the record that was read from it."""
    return msgspec.structs.replace(found, metadata=_slim(found.metadata))


def _slim(metadata: Metadata) -> Metadata:
    annotations = {name: value for name, value in metadata.annotations.items() if name != RECORD}
    return msgspec.structs.replace(metadata, annotations=annotations)


def _condition(conditions: list[Condition], type_: str) -> Condition:
    for each in conditions:
        if each.type == type_:
            return each
    return Condition(type=type_, status="Unknown")
