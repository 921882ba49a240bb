"""The documents that a server has open, kept as the files are on disk."""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, TypeVarTuple

from toolbox.errors import BadRequest
from toolbox.lsp.paths import uri_of
from toolbox.lsp.positions import Text

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_DOCUMENT = 4 * 1024 * 1024
"""Largest file that is shown to a server, in bytes."""
MAX_UNASKED = 64
"""Documents kept open that no client opened, because a request was about them."""
_TICK = 100_000_000
"""Nanoseconds, well above the resolution of modification times."""

_LANGUAGES = {
    **dict.fromkeys((".ts", ".mts", ".cts"), "typescript"),
    **dict.fromkeys((".js", ".mjs", ".cjs"), "javascript"),
    ".tsx": "typescriptreact",
    ".jsx": "javascriptreact",
}


class Threads(Protocol):
    """Threads that act as the user whose files these are."""

    async def run(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run `function` in a thread and return its outcome."""


Mark = tuple[int, int, int]
"""Modification time, size and inode: a file with the same mark is taken to be the same."""
Notify = Callable[[str, Any], None]


@dataclass
class Document:
    """An open file."""

    path: str
    mark: Mark
    text: Text
    version: int = 1
    asked: bool = False
    """A client opened it, so it stays open until one closes it."""
    users: int = 0
    """Requests that are under way."""
    uri: str = field(init=False)

    def __post_init__(self) -> None:
        self.uri = uri_of(self.path)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep it open: a server may drop the requests about a document that is closed."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1


class Documents:
    """All documents of one server. Not for use by two tasks at once."""

    def __init__(self, threads: Threads, language_id: str, notify: Notify) -> None:
        self._threads = threads
        self._language_id = language_id
        self._notify = notify
        self._open: dict[str, Document] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def asked(self) -> list[str]:
        """The paths that clients have opened."""
        return [document.path for document in self._open.values() if document.asked]

    def get(self, path: str) -> Document | None:
        """Return an open document."""
        return self._open.get(path)

    def text(self, path: str) -> Text | None:
        """Return the text of an open document."""
        document = self._open.get(path)
        return document.text if document else None

    async def sync(self, wanted: str | None = None, *, asked: bool = False) -> Document | None:
        """Tell the server what has changed on disk, and open `wanted`, which is returned.

        Raises `BadRequest` for a wanted file that is not there or too large, and `OSError`.
        """
        known = {path: document.mark for path, document in self._open.items()}
        changes = await self._threads.run(_changes, known, wanted)
        for path, change in changes.items():
            self._apply(path, change)
        if wanted is None:
            return None
        failure = changes.get(wanted)
        if isinstance(failure, Exception):
            raise failure
        document = self._open.pop(wanted)
        self._open[wanted] = document  # the latest comes last
        document.asked |= asked
        self._close_oldest()
        return document

    def _apply(self, path: str, change: "tuple[Mark, str] | Exception") -> None:
        document = self._open.get(path)
        if isinstance(change, Exception):
            if document is not None:
                self.close(path)
            return
        mark, content = change
        if document is None:
            document = self._open[path] = Document(path, mark, Text(content))
            item = {"uri": document.uri, "languageId": self._language_of(path), "version": 1, "text": content}
            self._notify("textDocument/didOpen", {"textDocument": item})
        elif content == document.text.content:
            document.mark = mark
        else:
            document.mark, document.text = mark, Text(content)
            document.version += 1
            identity = {"uri": document.uri, "version": document.version}
            # The whole text: every server takes that, whatever it says about increments.
            self._notify("textDocument/didChange", {"textDocument": identity, "contentChanges": [{"text": content}]})

    def _close_oldest(self) -> None:
        unasked = [path for path, document in self._open.items() if not document.asked and not document.users]
        for path in unasked[: max(0, len(unasked) - MAX_UNASKED)]:
            self.close(path)

    def close(self, path: str) -> None:
        """Close a document, if it is open."""
        document = self._open.pop(path, None)
        if document is not None:
            self._notify("textDocument/didClose", {"textDocument": {"uri": document.uri}})

    def _language_of(self, path: str) -> str:
        # One server may know several languages, by the names that editors use.
        if self._language_id in ("typescript", "javascript"):
            return _LANGUAGES.get(os.path.splitext(path)[1], self._language_id)
        return self._language_id


def _changes(known: dict[str, Mark], wanted: str | None) -> dict[str, "tuple[Mark, str] | Exception"]:
    """Return what differs from `known`: the new mark and content, or why there is none."""
    changes: dict[str, tuple[Mark, str] | Exception] = {}
    now = time.time_ns()
    for path in dict.fromkeys([*known, *([wanted] if wanted is not None else [])]):
        try:
            found = os.stat(path)
            # A file that was just written may be written again in the same tick of the clock: look again next time.
            moment = 0 if abs(now - found.st_mtime_ns) < _TICK else found.st_mtime_ns
            mark = (moment, found.st_size, found.st_ino)
            if moment and known.get(path) == mark:
                continue
            changes[path] = (mark, _read(path))
        except FileNotFoundError:
            changes[path] = BadRequest(f"no such file: {path}")
        except (OSError, BadRequest) as error:
            changes[path] = error
    return changes


def _read(path: str) -> str:
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
        raise BadRequest(f"not a file: {path}")
    with open(path, "rb") as file:
        content = file.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise BadRequest(f"too large for a language server: {path}")
    return content.decode("utf-8", "replace")


def read_texts(paths: Iterable[str]) -> dict[str, Text]:
    """Return the texts of those files that can be read; it blocks."""
    texts = {}
    for path in paths:
        try:
            texts[path] = Text(_read(path))
        except (OSError, BadRequest):
            continue
    return texts
