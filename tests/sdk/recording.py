"""Notes which methods of the published Python SDKs a scenario calls, and tells which it does not.

Nothing of the SDKs is changed: what is noted goes through proxies around their objects.
"""

import inspect
import re
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from daytona import DaytonaError, Image

from tests.sdk.clients import Either

_DEPRECATED = "_experimental_"
"""How the names of methods begin that were public and still are there."""


class Refusal(NamedTuple):
    """How a driver refuses what it cannot do."""

    status: int
    code: str
    says: str
    """Part of the message."""


@dataclass
class Record:
    """What was called, as `Class.method`, the sync SDK's names for either."""

    refusals: Mapping[str, Refusal]
    """What must be refused: a class, a method, or one way to call it (`Class.method(what)`)."""
    answered: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    async def attempt(self, case: str, call: Awaitable[Any]) -> bool:
        """Await a call that some drivers refuse, and tell whether it was answered; what was documented must hold."""
        refusal = self.refusals.get(case)
        if refusal is None:
            await call
            return True
        with pytest.raises(DaytonaError, match=re.escape(refusal.says)) as caught:
            await call
        assert (caught.value.status_code, caught.value.code) == (refusal.status, refusal.code), caught.value
        self.refused.add(case)
        return False

    def missing(self, classes: Iterable[type]) -> list[str]:
        """Name each public method that was neither answered nor refused, and each refusal that was not seen.

        Where a class (`Class`) was refused, all its methods were.
        """
        wanted = set(self.refusals)
        for each in classes:
            methods = set(_public(each))
            assert methods, f"{each} shows no methods: this looks for them in the wrong place"
            wanted |= methods
        left = wanted - self.answered - self.refused
        return sorted(each for each in left if each.partition(".")[0] not in self.refused)


def _public(kind: type) -> Iterator[str]:
    """Yield the public methods and properties that a class of the SDK has of its own, not of its data's model."""
    for each in kind.__mro__:
        if each.__module__.partition(".")[0] != "daytona":
            continue
        for name, found in vars(each).items():
            ours = not name.startswith("_") or name.startswith(_DEPRECATED)
            # pydantic's, which a model class may define anew
            if ours and not name.startswith("model_") and (inspect.isroutine(found) or isinstance(found, property)):
                yield f"{_name(kind)}.{name}"


def _name(kind: type) -> str:
    return kind.__name__.removeprefix("Async")


class Recorded(Either):
    """An object of either SDK whose calls are noted once they are answered."""

    def __init__(self, wrapped: Any, record: Record) -> None:
        super().__init__(wrapped)
        self._record = record

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        noted = f"{_name(type(self.wrapped))}.{name}"
        if not inspect.isroutine(found):
            self._record.answered.add(noted)
            return found

        async def call(*args: Any, **options: Any) -> Any:
            result = await found(*args, **options)
            self._record.answered.add(noted)
            return result

        return call

    def _same(self, value: Any) -> "Recorded":
        return Recorded(value, self._record)


class RecordedImage:
    """The class `Image`, or an image of it, whose calls are noted; the SDKs have it in common, and nobody waits."""

    def __init__(self, record: Record, image: Image | type[Image] = Image) -> None:
        self._record = record
        self.image = image

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.image, name)

        def call(*args: Any, **options: Any) -> Any:
            result = found(*args, **options)
            self._record.answered.add(f"Image.{name}")
            return RecordedImage(self._record, result) if isinstance(result, Image) else result

        return call
