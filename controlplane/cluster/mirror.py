"""Objects of one kind as the API server has them: listed once, then kept up by a watch, never polled."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Generic, Self

from controlplane.cluster.api import Cluster, Expired
from controlplane.cluster.kinds import Kind, O
from toolbox.errors import ToolboxError
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 5.0
Changed = Callable[[str, O | None, O | None], None]
"""Called with an object's name, how it was (None: new) and how it is (None: gone)."""


class Mirror(Generic[O]):
    """All objects of a kind that have some labels."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind[O],
        selector: str,
        changed: "Changed[O] | None" = None,
        *,
        kept: Callable[[O], O] = lambda found: found,
    ) -> None:
        """`kept` returns what of an object is worth its memory; listeners are told of all of it, once."""
        self._cluster = cluster
        self._kind = kind
        self._selector = selector
        self._changed = changed
        self._kept = kept
        self._objects: dict[str, O] = {}
        self._gone: dict[str, str] = {}
        """uid of what is gone -> name: late news of it must not bring it back."""
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        """Return once everything is here. Raises `ToolboxError` when the API server does not answer."""
        version = await self._list()
        self._tasks.start(self._follow(version), f"watch of {self._kind.plural}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()

    def get(self, name: str) -> O | None:
        """Return an object as it was last seen."""
        return self._objects.get(name)

    def __iter__(self) -> Iterator[O]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, found: O) -> None:
        """Take in an object that was just read or written; an older one than is here is passed over."""
        name, metadata = found.metadata.name, found.metadata
        before = self._objects.get(name)
        if metadata.uid in self._gone or (before is not None and _version(before) >= _version(found)):
            return
        self._objects[name] = self._kept(found)
        self._tell(name, before, found)

    def drop(self, name: str, uid: str | None = None) -> None:
        """Take in that an object is gone; `uid`: unless there is another of that name meanwhile."""
        before = self._objects.get(name)
        if before is None or (uid is not None and before.metadata.uid != uid):
            return
        del self._objects[name]
        self._gone[before.metadata.uid] = name
        if len(self._gone) > 1000:  # noqa: PLR2004 -- news are seldom that late
            self._gone.pop(next(iter(self._gone)))
        self._tell(name, before, None)

    def _tell(self, name: str, before: O | None, after: O | None) -> None:
        if self._changed is None:
            return
        try:
            self._changed(name, before, after)
        except Exception:  # a listener's fault does not end the watch
            log.exception("a listener of %s failed", self._kind.plural)

    async def _list(self) -> str:
        objects, version = await self._cluster.all(self._kind, self._selector)
        present = {each.metadata.name: each.metadata.uid for each in objects}
        for name, known in list(self._objects.items()):
            # What was made after the list was taken is not missing from it.
            if name not in present and _version(known) <= int(version):
                self.drop(name)
        for each in objects:
            self.put(each)
        return version

    async def _follow(self, version: str) -> None:
        """Watch for ever; after a break go on from where it was, or list anew."""
        retry, current = _FIRST_RETRY_SECONDS, version
        while True:
            try:
                if not current:
                    current = await self._list()
                before = current
                async with aclosing(self._cluster.watch(self._kind, self._selector, current)) as events:
                    async for type_, found in events:
                        current, retry = found.metadata.resource_version, _FIRST_RETRY_SECONDS
                        if type_ == "DELETED":
                            self.drop(found.metadata.name, found.metadata.uid)
                        elif type_ != "BOOKMARK":
                            self.put(found)
                if current == before:
                    # A server that is being stopped ends a watch as soon as it has begun.
                    await asyncio.sleep(retry)
            except Expired:
                current = ""
            except ToolboxError as error:
                log.warning("the API server is away", extra={"fields": {"kind": self._kind.name, "why": error.message}})
                current = ""  # a server that was restored may know less than we do
                await asyncio.sleep(retry)
                retry = min(retry * 2, _LAST_RETRY_SECONDS)


def _version(found: O) -> int:
    return int(found.metadata.resource_version)
