"""The published Python SDKs, sync and async, behind one face, so that a scenario is written once and runs with both.

Nothing of the SDKs is changed: `Either` only calls them, and awaits what the async one returns.
"""

import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class Either:
    """An object of either SDK. Its methods are awaited; those of the sync SDK have finished by then."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.wrapped, name)
        if not inspect.isroutine(found):
            return self._wrap(found)

        async def call(*args: Any, **options: Any) -> Any:
            result = found(*(arg.wrapped if isinstance(arg, Either) else arg for arg in args), **options)
            return self._wrap(await result if inspect.isawaitable(result) else result)

        return call

    def _wrap(self, value: Any) -> Any:
        """Wrap the SDK's own objects (a sandbox, its `fs`); answers stay what they are."""
        return self._same(value) if type(value).__module__.startswith(("daytona._sync", "daytona._async")) else value

    def _same(self, value: Any) -> "Either":
        """Wrap an object as this one is wrapped."""
        return Either(value)


async def items(stream: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Iterate over what either SDK gives to iterate over."""
    if isinstance(stream, AsyncIterable):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


def without_loop(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario with the sync SDK, where nothing is ever waited for, as the plain function it then is."""
    try:
        scenario.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    scenario.close()
    raise AssertionError("the sync SDK does not wait in an event loop")


@dataclass(frozen=True)
class Sdk:
    """A client, and what runs a scenario with it."""

    name: str
    daytona: Any
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    @property
    def is_async(self) -> bool:
        """Whether the client is the async one."""
        return self.name == "async"


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function: it runs once with each SDK, for the sync one without an event loop."""

    @functools.wraps(test)
    def run(sdk: Sdk, **fixtures: Any) -> None:
        sdk.run(test(sdk=sdk, **fixtures))

    return run
