"""Symbols of a whole project, by name."""

from toolbox.lsp import python_symbols
from toolbox.lsp.errors import RequestFailed
from toolbox.lsp.models import LspSymbol
from toolbox.lsp.python_symbols import source_files
from toolbox.lsp.results import ServerSymbol, symbols
from toolbox.lsp.server import LanguageServer

_TYPESCRIPT = (".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs")


async def find(server: LanguageServer, query: str) -> list[LspSymbol]:
    """Return what in the project has `query` in its name, as the server understands that. Raises `RequestFailed`."""
    if server.can("workspaceSymbolProvider"):
        if server.language_id in ("typescript", "javascript"):
            await _open_one(server)
        return symbols(await server.ask("workspace/symbol", {"query": query}, list[ServerSymbol]))
    if server.language_id != "python":
        raise RequestFailed(f"the language server for {server.language_id} does not look for symbols in a project")
    stop = python_symbols.Stop()
    try:
        return await server.threads.run(python_symbols.find, server.project, query, stop)
    finally:
        stop.set()


async def _open_one(server: LanguageServer) -> None:
    """Open a file, unless one is open: tsserver knows of no project before."""
    if server.has_documents:
        return
    path = await server.threads.run(_first, server.project)
    if path is not None:
        async with server.showing(path):
            return


def _first(project: str) -> str | None:
    return next(source_files(project, _TYPESCRIPT), None)
