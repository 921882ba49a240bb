"""The files of the sandbox, by the paths that clients use."""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from toolbox import paths
from toolbox.errors import BadRequest, InvalidPath
from toolbox.files import edits, globs, listing, moves, replace, search, waiting
from toolbox.files.archive import Archive
from toolbox.files.atomic import Replacement
from toolbox.files.compression import Format
from toolbox.files.listing import Listing
from toolbox.files.models import FileInfo, ReplaceResult, WaitAnswer, WaitQuery, WatchQuery
from toolbox.files.threads import FileThreads
from toolbox.files.unpack import Unpacking
from toolbox.files.uploads import Upload
from toolbox.files.watch import Filter, Watch
from toolbox.web.downloads import Download


class Files:
    """Everything that can be done to files. Relative paths start at `work_dir`; nothing confines them to it.

    `durable` makes every upload wait until the disk has it. Methods raise `InvalidPath` and `OSError` beside what
    they name.
    """

    def __init__(self, work_dir: Path, threads: FileThreads, *, durable: bool = False) -> None:
        self._work_dir = str(work_dir)
        self._durable = durable
        self.threads = threads

    def resolve(self, path: str) -> str:
        """Return the clean absolute path that a client's `path` names. Raises `InvalidPath`."""
        if not path:
            raise InvalidPath("empty path")
        path = paths.unescape(path)
        return paths.clean(path if path.startswith("/") else f"{self._work_dir}/{path}")

    async def info(self, path: str) -> FileInfo:
        """Return what a file is, links followed."""
        name = paths.base_name(paths.unescape(path))
        return await self.threads.run(listing.inspect, self.resolve(path), name)

    def list(self, path: str, depth: int) -> Listing:
        """Return a directory's entries; the work happens when they are asked for, in a file thread."""
        return Listing(self.resolve(path), depth)

    async def create_folder(self, path: str, mode: str) -> None:
        """Create a directory and its parents. Raises `BadRequest` for a mode that is none."""
        await self.threads.run(edits.create_folder, self.resolve(path), edits.parse_mode(mode))

    async def delete(self, path: str, *, recursive: bool) -> None:
        """Delete a file, or with `recursive` a directory."""
        if path.rstrip("/").rpartition("/")[2] in ("", ".", ".."):
            raise InvalidPath(f"cannot be deleted by this name: {paths.lossy(path)}")
        await self.threads.run(edits.delete, self.resolve(path), recursive)

    async def move(self, source: str, destination: str) -> None:
        """Rename, or move to another file system. Raises `Conflict` if the destination exists."""
        await self.threads.run(moves.move, self.resolve(source), self.resolve(destination))

    async def set_permissions(self, path: str, *, mode: str, owner: str, group: str) -> None:
        """Change mode, owner and group, each unless empty. Raises `BadRequest` for one that does not exist."""
        bits = edits.parse_mode(mode) if mode else None
        await self.threads.run(edits.set_permissions, self.resolve(path), bits, owner, group)

    def upload(self, path: str) -> Upload:
        """Return the context in which new content for a file is received."""
        if path.endswith("/"):
            raise InvalidPath(f"is a directory's name: {paths.lossy(path)}")
        return Upload(self.threads, Replacement(self.resolve(path), durable=self._durable))

    def download(self, path: str) -> Download:
        """Return the context in which a file is open to be sent."""
        return Download(self.threads, self.resolve(path))

    def search(self, path: str, pattern: str) -> AsyncGenerator[Sequence[str], None]:
        """Yield, batch by batch, what is below `path` and has a matching base name; a missing path has nothing."""
        name = search.shown(paths.unescape(path))
        return search.in_shifts(self.threads, search.search(self.resolve(path), name, pattern))

    async def replace(self, names: Sequence[str], old: str, new: str) -> Sequence[ReplaceResult]:
        """Replace a text in files; what goes wrong with one is said in its result."""
        requested = [(name, self._resolve_or_not(name)) for name in names]
        return await replace.replace(self.threads, requested, old.encode(), new.encode())

    def _resolve_or_not(self, path: str) -> str | InvalidPath:
        try:
            return self.resolve(path)
        except InvalidPath as error:
            return error

    def watch(self, query: WatchQuery) -> Watch:
        """Return the context in which a directory or file is watched. Raises `BadRequest` for a bad pattern."""
        filter_ = Filter(_matcher(query.include), _matcher(query.exclude))
        window = query.window_ms / 1000
        return Watch(self.threads, self.resolve(query.path), filter_, recursive=query.recursive, window=window)

    async def wait(self, query: WaitQuery) -> WaitAnswer:
        """Return once a file is in the state waited for. Raises `RequestTimeout`."""
        path = self.resolve(query.path)
        return await waiting.wait_for(self.threads, path, query.until, query.since, query.timeout)

    def archive(self, path: str, form: Format) -> Archive:
        """Return the context in which a directory or file is packed to be sent."""
        return Archive(self.threads, self.resolve(path), form)

    def unpack(self, path: str, *, same_owner: bool) -> Unpacking:
        """Return the context in which an archive is received and unpacked into a directory."""
        return Unpacking(self.threads, self.resolve(path), same_owner=same_owner)


def _matcher(patterns: str) -> globs.Match | None:
    try:
        return globs.path_matcher(filter(None, map(str.strip, patterns.split(","))))
    except globs.BadPattern as error:
        raise BadRequest(f"not a pattern: {error}") from None
