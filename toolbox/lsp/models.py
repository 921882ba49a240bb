"""Wire models of `/lsp`. Positions count lines and UTF-16 units from zero, as the protocol of language servers does."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from toolbox.web.wire import Model, Text

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Position(Model):
    """A place between two characters."""

    line: Count
    character: Count


class Range(Model):
    """From `start` up to, without, `end`."""

    start: Position
    end: Position


class Location(Model):
    """A range in a file."""

    uri: str
    range: Range


class LspServerRequest(Model):
    """Which server: one for each language and project."""

    language_id: Text
    path_to_project: Text


class LspDocumentRequest(LspServerRequest):
    """A file of the project: `file://` and a path, absolute or relative to the project, or else to the work dir."""

    uri: Text


class LspPositionRequest(LspDocumentRequest):
    """A place in a file."""

    position: Position


class CompletionContext(Model):
    """What made the client ask: 1 by hand, 2 a character typed, 3 an incomplete list."""

    trigger_kind: int
    trigger_character: str | None = None


class LspCompletionParams(LspPositionRequest):
    """Where to complete."""

    context: CompletionContext | None = None


class LspReferencesRequest(LspPositionRequest):
    """Whose uses to find."""

    include_declaration: bool = True


class LspRenameRequest(LspPositionRequest):
    """What to rename."""

    new_name: Text


class LspFormatRequest(LspDocumentRequest):
    """How to format."""

    tab_size: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4
    insert_spaces: bool = True


class LspSymbolsQuery(LspServerRequest):
    """What to look for in the whole project."""

    query: str


class LspSymbol(Model, omit_defaults=True):
    """Something with a name, and where it is."""

    kind: int
    location: Location
    name: str
    container_name: str | None = None


class CompletionItem(Model, omit_defaults=True):
    """One way to go on. `documentation` is an object of `kind` and `value`."""

    label: str
    kind: int | None = None
    detail: str | None = None
    documentation: dict[str, Any] | None = None
    sort_text: str | None = None
    filter_text: str | None = None
    insert_text: str | None = None


class CompletionList(Model):
    """Ways to go on; an incomplete list may have others once more is typed."""

    is_incomplete: bool
    items: list[CompletionItem]


class MarkupContent(Model):
    """A text, `markdown` or `plaintext`."""

    kind: str
    value: str


class Hover(Model):
    """What the server tells of a place; `contents` is null when that is nothing."""

    contents: MarkupContent | None
    range: Range | UnsetType = UNSET


class TextEdit(Model):
    """A range of a file and what is to stand there."""

    range: Range
    new_text: str


class WorkspaceEdit(Model):
    """Edits by file URI. Nothing has been written."""

    changes: dict[str, list[TextEdit]]


class Formatting(Model):
    """The edits, and the whole text after them. Nothing has been written."""

    edits: list[TextEdit]
    text: str


class Diagnostic(Model, omit_defaults=True):
    """A finding. Severity: 1 error, 2 warning, 3 information, 4 hint."""

    range: Range
    message: str
    severity: int | None = None
    code: str | int | None = None
    source: str | None = None
    tags: list[int] | None = None


class Diagnostics(Model):
    """All findings in the file as it is on disk."""

    uri: str
    items: list[Diagnostic]
