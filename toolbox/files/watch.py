"""What happens in a directory tree, as the kernel tells it (inotify), in batches, or that too much happened.

A watch is complete from the moment it is entered. A new directory is watched at once and what is in it already is
reported as created. What happens to one path within a window of time is told as one event. Events that nobody has
fetched are kept up to a bound; beyond it they are dropped and an `overflow` stands in their place, as it does when the
kernel's own queue was full: the client should then look at the tree itself.
"""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Self

from toolbox import paths
from toolbox.errors import InvalidPath, Unavailable
from toolbox.files import inotify
from toolbox.files.atomic import MARK
from toolbox.files.changes import MAX_EVENTS, Changes
from toolbox.files.globs import Match
from toolbox.files.inotify import Event, Inotify
from toolbox.files.models import FileEvent
from toolbox.files.threads import FileThreads
from toolbox.lifetime import TaskSet

_DIRECTORIES_PER_SHIFT = 500


class Filter:
    """Which paths, relative to the watched directory, are of interest; an excluded directory hides all below it."""

    def __init__(self, include: Match | None = None, exclude: Match | None = None) -> None:
        self._include = include
        self._exclude = exclude

    def shows(self, path: str) -> bool:
        """Tell whether a path is reported."""
        return self.enters(path) and (self._include is None or bool(self._include(path)))

    def enters(self, path: str) -> bool:
        """Tell whether neither the path nor a directory above it is excluded."""
        if self._exclude is None:
            return True
        ends = [at for at, letter in enumerate(path) if letter == "/"]
        return not any(self._exclude(path[:end]) for end in (*ends, len(path)))


class Watch:
    """A watched directory or file, an async context; iterating yields batches of events, to the end of the directory.

    Entering raises `OSError`, and `Unavailable` where the kernel allows no more watches.
    """

    def __init__(self, threads: FileThreads, root: str, filter_: Filter, *, recursive: bool, window: float) -> None:
        self._threads = threads
        self._root = root
        self._filter = filter_
        self._recursive = recursive
        self._window = window
        self._only: str | None = None
        self._inotify: Inotify | None = None
        self._directories: dict[int, str] = {}
        """Relative path of each watched directory, by the kernel's number."""
        self._new: list[str] = []
        self._moved_out: dict[int, tuple[str, bool]] = {}
        self._lost = False
        self._ended = False
        self._readable = asyncio.Event()
        self._changed = asyncio.Event()
        self._changes = Changes()
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        try:
            await self._threads.run(self._open)
            await self._cover("", tell=False)
            asyncio.get_running_loop().add_reader(self._kernel.descriptor, self._readable.set)
            self._tasks.start(self._pump(), "file watch")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.descriptor)
            # The kernel takes a while to forget many watches.
            await self._threads.run(self._inotify.close)
            self._inotify = None

    @property
    def _kernel(self) -> Inotify:
        assert self._inotify is not None  # noqa: S101 -- entered
        return self._inotify

    def __aiter__(self) -> AsyncIterator[list[FileEvent]]:
        return self._batches()

    async def _batches(self) -> AsyncIterator[list[FileEvent]]:
        while not (self._ended and not self._changes):
            await self._changed.wait()
            if not self._ended:
                await asyncio.sleep(self._window)
            self._changed.clear()
            for path, is_directory in self._moved_out.values():
                self._leave(path, is_directory=is_directory)
            self._moved_out.clear()
            if self._ended:
                self._changed.set()
            batch = [self._wire(each) for each in self._changes.take()]
            if batch:
                yield batch

    def _wire(self, event: FileEvent) -> FileEvent:
        event.path = self._absolute(event.path)
        if event.old_path is not None:
            event.old_path = self._absolute(event.old_path)
        return event

    def _absolute(self, path: str) -> str:
        return paths.escape(f"{self._root.rstrip('/')}/{path}" if path else self._root)

    def _open(self) -> None:
        status = os.stat(self._root)
        if not stat.S_ISDIR(status.st_mode):
            if not stat.S_ISREG(status.st_mode):
                raise InvalidPath(f"neither a directory nor a regular file: {paths.lossy(self._root)}")
            self._only = paths.base_name(self._root)
            self._root = paths.parent(self._root)
            self._recursive = False
        try:
            self._inotify = Inotify()
        except OSError as error:
            raise Unavailable(f"the kernel allows no more watching clients: {error.strerror}") from None

    async def _cover(self, path: str, *, tell: bool) -> None:
        """Watch the directory `path` and, if recursive, all below it; with `tell`, what is found there is new."""
        work = self._plant(path)
        finished = False
        while not finished:
            found, finished = await self._threads.run(_for_a_while, work)
            if tell:
                for name, is_directory in found:
                    self._tell("created", name, is_directory=is_directory)

    def _plant(self, top: str) -> Iterator[list[tuple[str, bool]]]:
        """Watch directories, each before it is read: what is created later is told by the kernel.

        Yields what is in those that were not watched yet.
        """
        waiting = [top]
        while waiting:
            path = waiting.pop()
            try:
                is_new = self._add(path)
                entries = _entries(f"{self._root}/{path}", path) if self._recursive else []
            except OSError as error:
                if not path:
                    raise _too_many(error) or error from None
                self._lost |= _too_many(error) is not None
                continue
            found = [each for each in entries if self._filter.enters(each[0])]
            waiting += [name for name, is_directory in found if is_directory]
            yield found if is_new else []

    def _add(self, path: str) -> bool:
        """Watch one directory and tell whether it was not watched before."""
        # The root may be a link to a directory; below it, links are not followed.
        mask = inotify.CHANGES | inotify.ONLYDIR | (inotify.DONT_FOLLOW if path else 0)
        number = self._kernel.add(f"{self._root}/{path}", mask)
        is_new = number not in self._directories
        self._directories[number] = path
        return is_new

    async def _pump(self) -> None:
        try:
            await self._listen()
        except (OSError, Unavailable):
            self._changes.overflow()
            self._ended = True
            self._changed.set()

    async def _listen(self) -> None:
        """Take what the kernel has to tell, as long as the directory is there."""
        while not self._ended:
            await self._readable.wait()
            self._readable.clear()
            while self._take_some() or self._new or self._lost:
                if self._lost:
                    await self._start_over()
                while self._new:
                    await self._cover(self._new.pop(), tell=True)
                await asyncio.sleep(0)

    def _take_some(self) -> bool:
        """Take events, so few that nobody else waits long; tell whether there may be more."""
        events = self._kernel.read()
        for event in events:
            self._take(event)
        return bool(events)

    def _take(self, event: Event) -> None:
        mask = event.mask
        if mask & inotify.OVERFLOW:
            self._lost = True
            return
        directory = self._directories.get(event.watch)
        if directory is None:
            return
        if mask & inotify.IGNORED:
            del self._directories[event.watch]
        if mask & (inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.IGNORED | inotify.UNMOUNT):
            if directory == "" and not self._ended:
                self._end()
        elif event.name:
            self._take_named(event, f"{directory}/{event.name}" if directory else event.name)

    def _take_named(self, event: Event, path: str) -> None:
        mask = event.mask
        is_directory = bool(mask & inotify.ISDIR)
        if mask & inotify.MOVED_FROM:
            self._moved_out[event.cookie] = path, is_directory
            self._lost |= len(self._moved_out) > MAX_EVENTS
            self._changed.set()
        elif mask & inotify.MOVED_TO:
            self._arrive(self._moved_out.pop(event.cookie, None), path, is_directory=is_directory)
        elif mask & inotify.CREATE:
            self._tell("created", path, is_directory=is_directory)
            self._enter(path, is_directory=is_directory)
        elif mask & inotify.DELETE:
            self._tell("deleted", path, is_directory=is_directory)
        elif not is_directory:
            self._tell("modified", path, is_directory=False)

    def _enter(self, path: str, *, is_directory: bool) -> None:
        if is_directory and self._recursive and self._filter.enters(path):
            self._new.append(path)

    def _leave(self, path: str, *, is_directory: bool) -> None:
        """Take note that something has left the tree, with all below it."""
        self._tell("deleted", path, is_directory=is_directory)
        if not is_directory:
            return
        for number, directory in list(self._directories.items()):
            if directory == path or directory.startswith(path + "/"):
                self._forget(number)

    def _forget(self, number: int) -> None:
        self._directories.pop(number, None)
        with suppress(OSError):
            self._kernel.remove(number)

    def _arrive(self, origin: tuple[str, bool] | None, path: str, *, is_directory: bool) -> None:
        """Take note that something was renamed within the tree, or has come from outside."""
        old = origin[0] if origin else None
        if old is not None and is_directory:
            for number, directory in self._directories.items():
                if directory == old or directory.startswith(old + "/"):
                    self._directories[number] = path + directory[len(old) :]
        was_shown, is_shown = old is not None and self._shows(old), self._shows(path)
        if old is not None and was_shown and is_shown:
            self._changes.move(old, path, is_directory=is_directory)
            self._changed.set()
        elif old is not None and was_shown:
            self._tell("deleted", old, is_directory=is_directory)
        else:
            self._tell("created", path, is_directory=is_directory)
        # Also where it was watched already: what was new in it may have been missed under the old name.
        self._enter(path, is_directory=is_directory)

    def _shows(self, path: str) -> bool:
        own = path.endswith(MARK)
        return not own and (self._only is None or path == self._only) and self._filter.shows(path)

    def _tell(self, kind: str, path: str, *, is_directory: bool) -> None:
        if self._shows(path):
            self._changes.add(kind, path, is_directory=is_directory)
            self._changed.set()

    def _end(self) -> None:
        self._changes.add("deleted", "", is_directory=True)
        self._ended = True
        self._changed.set()

    async def _start_over(self) -> None:
        """Say that events were lost, and watch all directories there are now, under the names they have."""
        self._lost = False
        self._changes.overflow()
        self._changed.set()
        self._new.clear()
        self._moved_out.clear()
        before = set(self._directories)
        self._directories = {}
        await self._cover("", tell=False)
        for number in before - self._directories.keys():
            self._forget(number)


def _for_a_while(work: Iterator[list[tuple[str, bool]]]) -> tuple[list[tuple[str, bool]], bool]:
    """Do a share of the work; return what was found, and whether that was all."""
    found: list[tuple[str, bool]] = []
    for _ in range(_DIRECTORIES_PER_SHIFT):
        more = next(work, None)
        if more is None:
            return found, True
        found += more
    return found, False


def _entries(directory: str, prefix: str) -> list[tuple[str, bool]]:
    start = f"{prefix}/" if prefix else ""
    with os.scandir(directory) as entries:
        return sorted((start + each.name, each.is_dir(follow_symlinks=False)) for each in entries)


def _too_many(error: OSError) -> Unavailable | None:
    if error.errno != errno.ENOSPC:
        return None
    return Unavailable("the kernel allows no more watches (fs.inotify.max_user_watches)")
