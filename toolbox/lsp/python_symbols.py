"""Classes, functions and module variables of a Python project, by name: python-lsp-server cannot look for them.

Files are not parsed but scanned: strings and comments are passed over, definitions are found at the start of a line.
"""

import os
import re
import threading
from collections.abc import Iterator

from toolbox.lsp.documents import read_texts
from toolbox.lsp.models import Location, LspSymbol, Position, Range
from toolbox.lsp.paths import uri_of
from toolbox.lsp.positions import Text, utf16_units

MAX_FOUND = 1000
_CLASS, _METHOD, _FUNCTION, _VARIABLE = 5, 6, 12, 13
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}
_WORDS = re.compile(
    r"(?P<text>(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|\"(?:\\.|[^\\\"\n])*\"|'(?:\\.|[^\\'\n])*'|#[^\n]*))"
    r"|^(?P<indent>[ \t]*)(?:async[ \t]+)?(?P<kind>class|def)[ \t]+(?P<name>\w+)"
    r"|^(?P<variable>[^\W\d]\w*)[ \t]*(?::[^=\n]+)?=(?!=)"
    r"|^(?=[^\s)\]}])",
    re.MULTILINE | re.DOTALL,
)


Stop = threading.Event
"""Set when nobody waits for the answer any more."""


def find(project: str, query: str, stop: Stop) -> list[LspSymbol]:
    """Return the symbols whose names contain `query`, whatever the case; it blocks.

    The same name comes first, then names that begin with it; at most `MAX_FOUND`. Given up on `stop`.
    """
    wanted = query.lower()
    found: list[tuple[int, LspSymbol]] = []
    for path in python_files(project):
        if stop.is_set():
            break
        for text in read_texts([path]).values():
            if wanted in text.content.lower():
                found += ((_rank(symbol.name.lower(), wanted), symbol) for symbol in _symbols(path, text, wanted))
        if not wanted and len(found) >= MAX_FOUND:
            break
    found.sort(key=lambda each: each[0])
    return [symbol for _, symbol in found[:MAX_FOUND]]


def _rank(name: str, wanted: str) -> int:
    return 0 if name == wanted else 1 if name.startswith(wanted) else 2


def python_files(project: str) -> Iterator[str]:
    """Yield the sources of a project in lexical order, without hidden directories, environments and packages."""
    return source_files(project, (".py", ".pyi"))


def source_files(project: str, endings: tuple[str, ...]) -> Iterator[str]:
    """Yield the files of a project with one of these endings."""
    for directory, directories, files in os.walk(project):
        if "pyvenv.cfg" in files:
            directories.clear()
            continue
        directories[:] = sorted(name for name in directories if not name.startswith(".") and name not in _SKIPPED)
        yield from (f"{directory.rstrip('/')}/{name}" for name in sorted(files) if name.endswith(endings))


def _symbols(path: str, text: Text, wanted: str) -> Iterator[LspSymbol]:
    """Yield the symbols of one file, with the class or function they stand in."""
    outer: list[tuple[int, str, str]] = []
    uri, line, at = uri_of(path), 0, 0
    for found in _WORDS.finditer(text.content):
        if found["text"] is not None:
            continue
        name = found["name"] or found["variable"]
        if name is None:  # some other statement, which ends all that stood above it
            outer.clear()
            continue
        indent = len((found["indent"] or "").expandtabs())
        outer = [each for each in outer if each[0] < indent]
        container = outer[-1] if outer else None
        if found["variable"]:
            kind = _VARIABLE
        elif found["kind"] == "class":
            kind = _CLASS
        else:
            kind = _METHOD if container and container[2] == "class" else _FUNCTION
        if found["kind"]:
            outer.append((indent, name, found["kind"]))
        if wanted not in name.lower():
            continue
        start = found.start("name") if found["name"] else found.start("variable")
        line += text.content.count("\n", at, start)
        at = start
        column = utf16_units(text.content[text.content.rfind("\n", 0, start) + 1 : start])
        place = Range(Position(line, column), Position(line, column + utf16_units(name)))
        yield LspSymbol(kind, Location(uri, place), name, container[1] if container else None)
