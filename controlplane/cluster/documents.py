"""Documents in a cluster: one ConfigMap each, or a Secret for what is secret; its name is what must be unique."""

import base64
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Self

import msgspec

from controlplane.callers import visible_organization
from controlplane.cluster.api import Cluster
from controlplane.cluster.kinds import CONFIG_MAP, SECRET, Held, Kind
from controlplane.cluster.mirror import Mirror
from controlplane.cluster.names import DOCUMENT_ID, KIND, MANAGED, OURS, digest_name
from controlplane.models import EVERYBODY
from controlplane.store import Contended, D
from toolbox.errors import Conflict, NotFound

log = logging.getLogger(__name__)

_SECRET_KINDS = frozenset({"api_key", "secret"})
_KEY = "document"
_TRIES = 8


class Documents:
    """The objects that hold documents, of all kinds."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        selector = f"{OURS},{KIND}"
        self._config_maps = Mirror(cluster, CONFIG_MAP, selector, self._changed)
        self._secrets = Mirror(cluster, SECRET, selector, self._changed)
        self._watchers: dict[str, list[Callable[[Held | None], None]]] = {}

    async def __aenter__(self) -> Self:
        await self._config_maps.__aenter__()
        try:
            await self._secrets.__aenter__()
        except BaseException:
            await self._config_maps.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._secrets.__aexit__()
        await self._config_maps.__aexit__()

    def kind_of(self, kind: str) -> tuple[Kind[Held], Mirror[Held]]:
        """Return what documents of a kind are held in, and those there are."""
        return (SECRET, self._secrets) if kind in _SECRET_KINDS else (CONFIG_MAP, self._config_maps)

    def watch(self, kind: str, changed: Callable[[Held | None], None]) -> None:
        """Call `changed` whenever documents of a kind were, here or by another replica: with the one that is gone."""
        self._watchers.setdefault(kind, []).append(changed)

    def _changed(self, _: str, before: Held | None, after: Held | None) -> None:
        held = after or before
        if held is not None:
            for changed in self._watchers.get(held.metadata.labels.get(KIND, ""), []):
                changed(before if after is None else None)


class ClusterCollection(Generic[D]):
    """The documents of one kind."""

    def __init__(self, documents: Documents, kind: str, type_: type[D]) -> None:
        self._documents = documents
        self._cluster = documents.cluster
        self._kind = kind
        self._type = type_
        self._holder, self._mirror = documents.kind_of(kind)
        self._decoded: dict[str, tuple[str, D]] = {}
        """uid of the object -> its version and the document."""
        documents.watch(kind, self._forget)

    async def add(self, document: D) -> None:
        """Remember a new document. Raises `Conflict` when its name is taken."""
        name = self._name(document)
        try:
            self._mirror.put(await self._cluster.create(self._holder, self._body(document, name)))
        except Conflict:
            raise Conflict(f"a {self._kind} named {document.name} already exists") from None

    async def save(self, document: D) -> None:
        """Replace a document; one that is not there any more stays away.

        Of what another replica has written meanwhile stays what is not changed here. Raises `Conflict` if that
        happens all the time, or another document has the new name.
        """
        held = self._held(document.id)
        known = self._document(held) if held is not None else None
        if held is None or known is None:
            return
        if held.metadata.name != self._name(document):
            await self.add(document)
            await self._delete(held)
            return
        changes = _changes(known, document)
        for _ in range(_TRIES):
            if await self._replace(held, document):
                return
            held = await self._cluster.get(self._holder, held.metadata.name)
            now = self._document(held) if held is not None else None
            if held is None or now is None or now.id != document.id:
                return  # another one has its name
            document = _laid_over(now, changes)
        raise Conflict(f"the {self._kind} {document.name} is being changed by others all the time")

    async def _replace(self, held: Held, document: D) -> bool:
        """Write a document into what holds it; tell whether that was as it is here."""
        seen = {"metadata": {"resourceVersion": held.metadata.resource_version}}
        try:
            self._mirror.put(
                await self._cluster.patch(self._holder, held.metadata.name, {**seen, **self._content(document)})
            )
        except NotFound:
            self._mirror.drop(held.metadata.name, held.metadata.uid)
        except Contended:
            return False
        return True

    async def remove(self, document_id: str) -> None:
        """Forget a document."""
        held = self._held(document_id)
        if held is not None:
            await self._delete(held)

    async def find(self, id_or_name: str) -> D | None:
        """Return the document with this id, else the one with this name."""
        found = self._find(id_or_name)
        if found is None:
            # Another replica may just have made it.
            await self._look(id_or_name)
            found = self._find(id_or_name)
        return found

    async def all(self) -> list[D]:
        """Return all documents, newest first."""
        return sorted(self._visible(), key=lambda each: (each.created_at, each.id), reverse=True)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever documents were, here or by another replica."""
        self._documents.watch(self._kind, lambda _: changed())

    def _forget(self, gone: Held | None) -> None:
        if gone is not None:
            self._decoded.pop(gone.metadata.uid, None)

    def _find(self, id_or_name: str) -> D | None:
        named = None
        for each in self._visible():
            if each.id == id_or_name:
                return each
            # An organisation's own comes before everybody's.
            if each.name == id_or_name and (named is None or each.organization_id != EVERYBODY):
                named = each
        return named

    async def _look(self, id_or_name: str) -> None:
        organization = visible_organization()
        for owner in {organization, EVERYBODY} - {None}:
            name = digest_name(self._prefix, str(owner), id_or_name)
            held = await self._cluster.get(self._holder, name)
            if held is not None:
                self._mirror.put(held)
        if len(id_or_name) == len("00000000-0000-0000-0000-000000000000"):
            held_all, _ = await self._cluster.all(
                self._holder, f"{OURS},{KIND}={self._kind},{DOCUMENT_ID}={id_or_name}"
            )
            for each in held_all:
                self._mirror.put(each)

    def _visible(self) -> list[D]:
        organization = visible_organization()
        found = (self._document(each) for each in self._mirror if each.metadata.labels.get(KIND) == self._kind)
        return [
            each
            for each in found
            if each is not None and (organization is None or each.organization_id in (organization, EVERYBODY))
        ]

    def _document(self, held: Held) -> D | None:
        name, uid, version = held.metadata.name, held.metadata.uid, held.metadata.resource_version
        known = self._decoded.get(uid)
        if known is not None and known[0] == version:
            return known[1]
        text = held.data.get(_KEY, "")
        try:
            data = base64.b64decode(text) if self._holder is SECRET else text.encode()
            document = msgspec.json.decode(data, type=self._type)
        except (ValueError, msgspec.DecodeError) as error:
            log.warning("not a document of ours", extra={"fields": {"name": name, "why": str(error)}})
            return None
        self._decoded[uid] = (version, document)
        return document

    def _held(self, document_id: str) -> Held | None:
        for each in self._mirror:
            labels = each.metadata.labels
            if labels.get(DOCUMENT_ID) == document_id and labels.get(KIND) == self._kind:
                return each
        return None

    async def _delete(self, held: Held) -> None:
        with suppress(Contended):  # there is another of that name by now
            await self._cluster.delete(self._holder, held.metadata.name, uid=held.metadata.uid)
        self._mirror.drop(held.metadata.name, held.metadata.uid)

    @property
    def _prefix(self) -> str:
        return self._kind.replace("_", "-")

    def _name(self, document: D) -> str:
        return digest_name(self._prefix, document.organization_id, document.name)

    def _body(self, document: D, name: str) -> dict[str, Any]:
        labels = {**MANAGED, KIND: self._kind, DOCUMENT_ID: document.id}
        return {"metadata": {"name": name, "labels": labels}, **self._content(document)}

    def _content(self, document: D) -> dict[str, Any]:
        data = msgspec.json.encode(document)
        return {"data": {_KEY: base64.b64encode(data).decode() if self._holder is SECRET else data.decode()}}


def _changes(before: object, after: object) -> dict[str, Any]:
    """Return the fields of a document that are other than before."""
    assert isinstance(before, msgspec.Struct)  # noqa: S101 -- all documents are
    fields = before.__struct_fields__
    return {name: new for name in fields if (new := getattr(after, name)) != getattr(before, name)}


def _laid_over(document: D, changes: dict[str, Any]) -> D:
    assert isinstance(document, msgspec.Struct)  # noqa: S101 -- all documents are
    return msgspec.structs.replace(document, **changes)
