"""What is wrong with a file: asked for where the server can be asked, else waited for until it is published."""

import asyncio
import copy
from typing import Any

import msgspec

from toolbox.lsp.models import Diagnostic, Diagnostics
from toolbox.lsp.paths import uri_of
from toolbox.lsp.server import REQUEST_SECONDS, LanguageServer

_COMMAND = "typescript.tsserverRequest"
_TYPESCRIPT = ("syntacticDiagnosticsSync", "semanticDiagnosticsSync", "suggestionDiagnosticsSync")
_SEVERITIES = {"error": 1, "warning": 2, "suggestion": 4}
_UNNECESSARY, _DEPRECATED = 1, 2


class _Report(msgspec.Struct):
    items: list[Any] = []


class _Place(msgspec.Struct):
    line: int
    offset: int


class _Finding(msgspec.Struct, rename="camel"):
    """A diagnostic of tsserver: counted from one."""

    start: _Place
    end: _Place
    text: str
    category: str = "error"
    code: int | None = None
    source: str | None = None
    reports_unnecessary: bool = False
    reports_deprecated: bool = False


class _Findings(msgspec.Struct):
    body: list[_Finding] = []


async def pull(server: LanguageServer, path: str) -> Diagnostics:
    """Return all diagnostics of a file as it is on disk."""
    if server.can("diagnosticProvider"):
        report, _ = await server.ask_about(path, "textDocument/diagnostic", _Report)
        items = report.items if report else []
    elif server.has_command(_COMMAND):
        # It publishes nothing when a change leaves a file without findings, so that waiting could be in vain.
        items = await _ask_tsserver(server, path)
    else:
        async with server.showing(path) as document:
            published = await server.published.of(path, document.version, REQUEST_SECONDS)
            items = await server.adapt(copy.deepcopy(published), path)
    return Diagnostics(uri_of(path), [msgspec.convert(item, Diagnostic) for item in items])


async def _ask_tsserver(server: LanguageServer, path: str) -> list[dict[str, Any]]:
    async with server.showing(path):
        requests = (
            server.ask(
                "workspace/executeCommand", {"command": _COMMAND, "arguments": [name, {"file": path}]}, _Findings
            )
            for name in _TYPESCRIPT
        )
        answers = await asyncio.gather(*requests)
    return [_as_diagnostic(finding) for answer in answers if answer is not None for finding in answer.body]


def _as_diagnostic(finding: _Finding) -> dict[str, Any]:
    def place(at: _Place) -> dict[str, int]:
        return {"line": max(0, at.line - 1), "character": max(0, at.offset - 1)}

    tags = [_UNNECESSARY] * finding.reports_unnecessary + [_DEPRECATED] * finding.reports_deprecated
    return {
        "range": {"start": place(finding.start), "end": place(finding.end)},
        "message": finding.text,
        "severity": _SEVERITIES.get(finding.category, 1),
        "code": finding.code,
        "source": finding.source or "typescript",
        "tags": tags or None,
    }
