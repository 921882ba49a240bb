"""Answers of servers, in all the forms that the protocol allows, as the one form that our clients get."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET

from toolbox.lsp.models import (
    CompletionItem,
    CompletionList,
    Hover,
    Location,
    LspSymbol,
    MarkupContent,
    Position,
    Range,
    TextEdit,
    WorkspaceEdit,
)

_NOWHERE = Range(Position(0, 0), Position(0, 0))


class ServerCompletion(msgspec.Struct, rename="camel"):
    """A completion as servers give it."""

    label: str
    kind: int | None = None
    detail: str | None = None
    documentation: str | dict[str, Any] | None = None
    sort_text: str | None = None
    filter_text: str | None = None
    insert_text: str | None = None


class ServerCompletions(msgspec.Struct, rename="camel"):
    """A list that may say that it is incomplete."""

    items: list[ServerCompletion] | None = None
    is_incomplete: bool = False


COMPLETIONS: Any = ServerCompletions | list[ServerCompletion]


def completions(answer: ServerCompletions | list[ServerCompletion] | None) -> CompletionList:
    """Return completions. Documentation becomes an object: clients refuse the whole list for a string."""
    if not isinstance(answer, ServerCompletions):
        answer = ServerCompletions(answer)
    return CompletionList(answer.is_incomplete, [_completion(item) for item in answer.items or ()])


def _completion(item: ServerCompletion) -> CompletionItem:
    documentation = item.documentation
    if isinstance(documentation, str):
        documentation = {"kind": "plaintext", "value": documentation}
    return CompletionItem(
        item.label, item.kind, item.detail, documentation, item.sort_text, item.filter_text, item.insert_text
    )


class ServerLocation(msgspec.Struct, rename="camel"):
    """A `Location`, the one of a `WorkspaceSymbol`, which may lack its range, or a `LocationLink`."""

    uri: str = ""
    range: Range | None = None
    target_uri: str = ""
    target_selection_range: Range | None = None

    def location(self) -> Location:
        """Return it as a location."""
        return Location(self.uri or self.target_uri, self.range or self.target_selection_range or _NOWHERE)


LOCATIONS: Any = list[ServerLocation] | ServerLocation


class ServerSymbol(msgspec.Struct, rename="camel"):
    """A `SymbolInformation`, `WorkspaceSymbol` or (hierarchical) `DocumentSymbol`."""

    name: str
    kind: int
    location: ServerLocation | None = None
    container_name: str | None = None
    range: Range | None = None
    children: list["ServerSymbol"] | None = None


def symbols(answer: list[ServerSymbol] | None, uri: str = "") -> list[LspSymbol]:
    """Return symbols without hierarchy, parents before children; `uri` is the document's."""
    return [flat for symbol in answer or () for flat in _flat(symbol, uri, None)]


def _flat(symbol: ServerSymbol, uri: str, parent: str | None) -> Iterator[LspSymbol]:
    location = symbol.location.location() if symbol.location else Location(uri, symbol.range or _NOWHERE)
    yield LspSymbol(symbol.kind, location, symbol.name, symbol.container_name or parent)
    for child in symbol.children or ():
        yield from _flat(child, uri, symbol.name)


def locations(answer: list[ServerLocation] | ServerLocation | None) -> list[Location]:
    """Return locations."""
    if isinstance(answer, ServerLocation):
        answer = [answer]
    return [each.location() for each in answer or ()]


class ServerHover(msgspec.Struct):
    """A hover, whose contents have had many forms: a string, an object of either kind, or a list of both."""

    contents: Any = None
    range: Range | None = None


def hover(answer: ServerHover | None) -> Hover:
    """Return a hover, its contents as one text."""
    if answer is None:
        return Hover(None)
    contents = answer.contents
    parts = [_marked(part) for part in (contents if isinstance(contents, list) else [contents])]
    value = "\n\n".join(filter(None, parts))
    plain = isinstance(contents, dict) and contents.get("kind") == "plaintext"
    content = MarkupContent("plaintext" if plain else "markdown", value) if value else None
    return Hover(content, answer.range or UNSET)


def _marked(part: Any) -> str:
    if isinstance(part, dict):
        value = str(part.get("value", ""))
        return f"```{part['language']}\n{value}\n```" if "language" in part else value
    return part if isinstance(part, str) else ""


class _Identity(msgspec.Struct):
    uri: str


class _DocumentEdit(msgspec.Struct, rename="camel"):
    text_document: _Identity | None = None
    edits: list[TextEdit] = []


class ServerEdit(msgspec.Struct, rename="camel"):
    """A `WorkspaceEdit`; creation, renaming and removal of files are not announced, and left out."""

    changes: dict[str, list[TextEdit]] | None = None
    document_changes: list[_DocumentEdit] | None = None


def workspace_edit(answer: ServerEdit | None) -> WorkspaceEdit:
    """Return edits by file."""
    changes: dict[str, list[TextEdit]] = {}
    if answer is not None:
        for uri, edits in (answer.changes or {}).items():
            changes.setdefault(uri, []).extend(edits)
        for change in answer.document_changes or ():
            if change.text_document is not None:
                changes.setdefault(change.text_document.uri, []).extend(change.edits)
    return WorkspaceEdit(changes)
