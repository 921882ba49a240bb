"""What is needed of the threads in which files are touched."""

from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads(Protocol):
    """Threads that act as the user whose files these are."""

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run `function` in a thread and return its outcome; a caller that is cancelled waits for it too."""
