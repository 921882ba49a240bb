"""Memory that a burst of work has left free inside this process goes back to the system."""

import asyncio
import ctypes
from collections.abc import Callable
from contextlib import suppress

_PERIOD_SECONDS = 10.0
_M_ARENA_MAX = -8


def share_one_arena() -> None:
    """Let all threads take memory from one place; to be called before the first thread starts.

    The C library gives each thread an arena of its own otherwise, and never gives back the free end of one: together
    they keep what each had at its worst. They gain next to nothing where threads take turns at the interpreter.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


async def give_back(work_done: Callable[[], int]) -> None:
    """Give back what is free every now and then, for ever, as long as `work_done()` changes.

    The C library keeps it otherwise. A lower limit for what it takes from the system piece by
    piece would do the same, and double the processor time of large answers.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # another C library
        return
    before = work_done()
    while True:
        await asyncio.sleep(_PERIOD_SECONDS)
        done = work_done()
        if done != before:
            before = done
            await asyncio.to_thread(trim, 0)
