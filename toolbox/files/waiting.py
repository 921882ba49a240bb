"""Waiting until a file is there, is another one, or is gone."""

import asyncio
import os
import stat
import time
from contextlib import suppress
from typing import Literal

from toolbox import paths
from toolbox.errors import RequestTimeout
from toolbox.files import inotify, listing
from toolbox.files.inotify import Inotify
from toolbox.files.models import FileInfo, WaitAnswer
from toolbox.files.threads import FileThreads

State = Literal["exists", "changed", "gone"]

_LOOK_SECONDS = 1.0
"""How often one looks without having been called: not every file system reports what others do to it."""
_CALM_SECONDS = 0.01


async def wait_for(threads: FileThreads, path: str, until: State, since: str, timeout: float) -> WaitAnswer:
    """Return when the file is in the state waited for. Raises `RequestTimeout`, `OSError`."""
    over = time.monotonic() + timeout
    bell = _Bell()
    try:
        first = await threads.run(_look, path, None)
        while True:
            # Watched first, looked at afterwards: nothing can happen unseen in between.
            now = await threads.run(_look, path, bell)
            if _reached(until, since, first, now):
                return WaitAnswer(state="gone" if now is None else until, file=now)
            left = over - time.monotonic()
            if left <= 0:
                raise RequestTimeout(f"not {until} within {timeout:g} s: {paths.lossy(path)}")
            await bell.rung(min(left, _LOOK_SECONDS))
    finally:
        bell.close()


def _reached(until: State, since: str, first: FileInfo | None, now: FileInfo | None) -> bool:
    if until == "exists":
        return now is not None
    if until == "gone":
        return now is None
    if since:
        return now is None or now.modified_at != since
    return now != first


def _look(path: str, bell: "_Bell | None") -> FileInfo | None:
    if bell is not None:
        bell.watch(path)
    try:
        return listing.inspect(path, paths.base_name(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


class _Bell:
    """Rings when something happens to a file or to the nearest directory above it that exists."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._inotify: Inotify | None = None
        with suppress(OSError):  # without it, one looks from time to time
            self._inotify = Inotify()
            self._loop.add_reader(self._inotify.descriptor, self._on_readable)

    def watch(self, path: str) -> None:
        """Watch a path and where it is, as they are now; runs in a file thread."""
        if self._inotify is None:
            return
        with suppress(OSError):
            if not stat.S_ISDIR(os.stat(path).st_mode):
                self._inotify.add(path, inotify.CHANGES)
        above = path
        while above != "/":
            above = paths.parent(above)
            with suppress(OSError):
                self._inotify.add(above, inotify.CHANGES | inotify.ONLYDIR)
                return

    def _on_readable(self) -> None:
        assert self._inotify is not None  # noqa: S101 -- it is what became readable
        while self._inotify.read():
            self._event.set()

    async def rung(self, seconds: float) -> None:
        """Return when it has rung, or the time has passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
                # A busy directory shall not keep a thread busy.
                await asyncio.sleep(_CALM_SECONDS)
        self._event.clear()

    def close(self) -> None:
        """Stop listening."""
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.descriptor)
            self._inotify.close()
