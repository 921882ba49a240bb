"""The files of the sandbox over SFTP and SCP: the library's server, with every touch of the disk in a thread."""

import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs, SFTPName, SFTPServer, SSHServerChannel

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_BLOCKING = (
    *("open", "close", "lstat", "stat", "fstat", "setstat", "lsetstat", "fsetstat", "remove", "mkdir", "rmdir"),
    *("realpath", "rename", "posix_rename", "readlink", "symlink", "link", "statvfs", "fstatvfs", "fsync"),
)
"""Methods of the library's server that touch the disk where they are called."""


class Threads(Protocol):
    """Threads that act as the user whose files these are."""

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run `function` in a thread and return its outcome."""


class _Mapped:
    """What we do differently: relative paths start in the work dir, offsets need no shared position."""

    threads: Threads
    work_dir: bytes

    def map_path(self, path: bytes) -> bytes:
        return os.path.join(self.work_dir, path)  # noqa: PTH118 -- bytes, as they came

    async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        return await self.threads.run(os.pread, file_obj.fileno(), size, offset)

    async def write(self, file_obj: Any, offset: int, data: bytes) -> int:
        return await self.threads.run(_write_all, file_obj.fileno(), data, offset)

    async def scandir(self, path: bytes) -> "AsyncIterator[SFTPName]":
        from asyncssh import SFTPAttrs, SFTPName  # noqa: PLC0415 -- heavy

        for name, found in await self.threads.run(_entries, self.map_path(path)):
            yield SFTPName(name, attrs=SFTPAttrs.from_local(found))


def _write_all(descriptor: int, data: bytes, offset: int) -> int:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
    return len(data)


def _entries(path: bytes) -> list[tuple[bytes, os.stat_result]]:
    found = [(name, os.lstat(os.path.join(path, name))) for name in (b".", b"..")]  # noqa: PTH118
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                found.append((entry.name, entry.stat(follow_symlinks=False)))
            except FileNotFoundError:  # gone since
                continue
    return found


def sftp_factory(threads: Threads, work_dir: str) -> "Callable[[SSHServerChannel[bytes]], SFTPServer]":
    """Return what makes a file server for a channel. The library must have been imported before."""
    kind = _server_class()
    return lambda channel: kind(channel, threads, os.fsencode(work_dir))


@cache
def _server_class() -> Any:
    from asyncssh import SFTPServer  # noqa: PLC0415 -- heavy

    class Server(_Mapped, SFTPServer):
        def __init__(self, channel: "SSHServerChannel[bytes]", threads: Threads, work_dir: bytes) -> None:
            super().__init__(channel)
            self.threads, self.work_dir = threads, work_dir

        def open(self, path: bytes, pflags: int, attrs: "SFTPAttrs") -> object:
            # A pipe without a peer would hold the thread for ever.
            if stat.S_ISFIFO(_mode(self.map_path(path))):
                raise PermissionError("named pipes cannot be opened")
            return super().open(path, pflags, attrs)

        def exit(self) -> None:
            # The library closes without a status, which `scp` takes for a failure.
            if self.channel.get_subsystem() is not None:
                with contextlib.suppress(OSError):
                    self.channel.exit(0)

    def in_thread(name: str) -> Any:
        blocking = getattr(Server, name)

        async def method(self: Any, *arguments: Any) -> Any:
            return await self.threads.run(blocking, self, *arguments)

        return method

    for name in _BLOCKING:
        setattr(Server, name, in_thread(name))
    return Server


def _mode(path: bytes) -> int:
    try:
        return os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return 0
