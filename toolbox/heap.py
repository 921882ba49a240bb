"""Memory that a burst of work has left free inside this process goes back to the system."""

import asyncio
import ctypes
from collections.abc import Callable

_PERIOD_SECONDS = 10.0


async def give_back(work_done: Callable[[], int]) -> None:
    """Give back what is free every now and then, for ever, as long as `work_done()` changes.

    The C library keeps it otherwise, in each thread's arena. A lower limit for what it takes from the system piece by
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
