"""Columns in messages: UTF-16 units for clients, code points for servers that count those."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from toolbox.lsp.documents import Threads, read_texts
from toolbox.lsp.paths import path_of
from toolbox.lsp.positions import Text

Place = tuple[dict[str, int], str]
"""A decoded position, and the path of the file that it is in."""


async def to_units(
    value: Any, about: tuple[str, Text] | None, open_: Callable[[str], Text | None], threads: Threads
) -> Any:
    """Turn all columns of a decoded message from code points into UTF-16 units, in place, and return it.

    Positions that stand below no URI are in the document that the message is `about`: its path, and the text that
    the server knew. `open_` returns the text of another document the server has open; the rest is read from disk.
    """
    path, text = about or ("", None)
    places = list(_places(value, path))
    texts = {path: text} if text else {}
    for name in {name for _, name in places} - texts.keys():
        if (found := open_(name)) is not None:
            texts[name] = found
    missing = {name for _, name in places} - texts.keys() - {""}
    if missing:
        texts |= await threads.run(read_texts, missing)
    for position, name in places:
        if name in texts:
            position["character"] = texts[name].units(position["line"], position["character"])
    return value


def to_code_points(value: Any, path: str, texts: Mapping[str, Text]) -> None:
    """Turn all columns of a decoded message from UTF-16 units into code points, in place."""
    for position, name in _places(value, path):
        if name in texts:
            position["character"] = texts[name].code_points(position["line"], position["character"])


def path_in(value: dict[str, Any]) -> str | None:
    """Return the path of the file that the positions in a decoded object are in, if it names one."""
    document = value.get("textDocument")
    uri = value.get("uri") or value.get("targetUri") or (document.get("uri") if isinstance(document, dict) else None)
    return path_of(uri) if isinstance(uri, str) else None


def _places(value: Any, path: str) -> Iterator[Place]:
    if isinstance(value, list):
        for item in value:
            yield from _places(item, path)
    elif isinstance(value, dict):
        if value.keys() == {"line", "character"}:
            yield value, path
            return
        here = path_in(value) or path
        for key, item in value.items():
            if key == "changes" and isinstance(item, dict):  # of a `WorkspaceEdit`: edits by URI
                for uri, edits in item.items():
                    yield from _places(edits, path_of(uri))
            else:
                yield from _places(item, here)
