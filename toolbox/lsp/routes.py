"""Routes of `/lsp`."""

from aiohttp import WSCloseCode, web

from toolbox.errors import BadRequest
from toolbox.lifetime import TaskSet
from toolbox.lsp import diagnostics, symbols
from toolbox.lsp.editor import Editor
from toolbox.lsp.errors import ServerEnded
from toolbox.lsp.models import (
    CompletionList,
    Diagnostics,
    Formatting,
    Hover,
    Location,
    LspCompletionParams,
    LspDocumentRequest,
    LspFormatRequest,
    LspPositionRequest,
    LspReferencesRequest,
    LspRenameRequest,
    LspServerRequest,
    LspSymbol,
    LspSymbolsQuery,
    TextEdit,
    WorkspaceEdit,
)
from toolbox.lsp.positions import Text, apply
from toolbox.lsp.results import (
    COMPLETIONS,
    LOCATIONS,
    ServerEdit,
    ServerHover,
    ServerSymbol,
    completions,
    hover,
    locations,
    workspace_edit,
)
from toolbox.lsp.results import symbols as flat_symbols
from toolbox.lsp.servers import LanguageServers
from toolbox.web.endpoint import Routes
from toolbox.web.websocket import Socket, Sockets, require_upgrade

routes = Routes("lsp")

MAX_MESSAGE = 16 * 1024 * 1024
"""Largest message of an editor, in bytes: a whole document may be in it."""


@routes.post("/lsp/start", "Start")
async def start(body: LspServerRequest, servers: LanguageServers) -> None:
    """Start the language server of a project, unless it runs."""
    await servers.start(body.language_id, body.path_to_project)


@routes.post("/lsp/stop", "Stop")
async def stop(body: LspServerRequest, servers: LanguageServers) -> None:
    """End the language server of a project."""
    await servers.stop(body.language_id, body.path_to_project)


@routes.post("/lsp/did-open", "DidOpen")
async def did_open(body: LspDocumentRequest, servers: LanguageServers) -> None:
    """Open a file: the server keeps it in mind, as it is on disk at each request, until it is closed."""
    server, path = await servers.find(body.language_id, body.path_to_project, body.uri)
    await server.open(path)


@routes.post("/lsp/did-close", "DidClose")
async def did_close(body: LspDocumentRequest, servers: LanguageServers) -> None:
    """Close a file."""
    await servers.close(body.language_id, body.path_to_project, body.uri)


@routes.post("/lsp/completions", "Completions")
async def complete(body: LspCompletionParams, servers: LanguageServers) -> CompletionList:
    """List how the text could go on at a place."""
    server, path = await servers.find(body.language_id, body.path_to_project, body.uri)
    more = {"context": body.context} if body.context else {}
    answer, _ = await server.ask_about(
        path, "textDocument/completion", COMPLETIONS, position=body.position, places=False, **more
    )
    return completions(answer)


@routes.get("/lsp/document-symbols", "DocumentSymbols")
async def document_symbols(query: LspDocumentRequest, servers: LanguageServers) -> list[LspSymbol]:
    """List what is defined in a file, without hierarchy."""
    server, path = await servers.find(query.language_id, query.path_to_project, query.uri)
    answer, document = await server.ask_about(path, "textDocument/documentSymbol", list[ServerSymbol])
    return flat_symbols(answer, document.uri)


@routes.get("/lsp/workspacesymbols", "WorkspaceSymbols")
async def workspace_symbols(query: LspSymbolsQuery, servers: LanguageServers) -> list[LspSymbol]:
    """List what is defined in the project under such a name."""
    return await symbols.find(servers.get(query.language_id, query.path_to_project), query.query)


@routes.post("/lsp/hover", "LspHover")
async def hover_at(body: LspPositionRequest, servers: LanguageServers) -> Hover:
    """Tell what stands at a place: its type, its documentation."""
    server, path = await servers.find(body.language_id, body.path_to_project, body.uri)
    answer, _ = await server.ask_about(path, "textDocument/hover", ServerHover, position=body.position)
    return hover(answer)


@routes.post("/lsp/definition", "LspDefinition")
async def definition(body: LspPositionRequest, servers: LanguageServers) -> list[Location]:
    """Find where what stands at a place is defined."""
    server, path = await servers.find(body.language_id, body.path_to_project, body.uri)
    answer, _ = await server.ask_about(path, "textDocument/definition", LOCATIONS, position=body.position)
    return locations(answer)


@routes.post("/lsp/references", "LspReferences")
async def references(body: LspReferencesRequest, servers: LanguageServers) -> list[Location]:
    """Find where what stands at a place is used."""
    server, path = await servers.find(body.language_id, body.path_to_project, body.uri)
    context = {"includeDeclaration": body.include_declaration}
    answer, _ = await server.ask_about(
        path, "textDocument/references", LOCATIONS, position=body.position, context=context
    )
    return locations(answer)


@routes.post("/lsp/rename", "LspRename")
async def rename(body: LspRenameRequest, servers: LanguageServers) -> WorkspaceEdit:
    """Return the edits that rename what stands at a place, everywhere. Nothing is written."""
    server, path = await servers.find(body.language_id, body.path_to_project, body.uri)
    answer, _ = await server.ask_about(
        path, "textDocument/rename", ServerEdit, position=body.position, newName=body.new_name
    )
    return workspace_edit(answer)


@routes.post("/lsp/format", "LspFormat")
async def format_document(body: LspFormatRequest, servers: LanguageServers) -> Formatting:
    """Return the edits that format a file, and its text after them. Nothing is written."""
    server, path = await servers.find(body.language_id, body.path_to_project, body.uri)
    options = {"tabSize": body.tab_size, "insertSpaces": body.insert_spaces}
    edits, document = await server.ask_about(path, "textDocument/formatting", list[TextEdit], options=options)
    return Formatting(edits or [], _edited(document.text, edits or []))


def _edited(text: Text, edits: list[TextEdit]) -> str:
    places = [(edit.range.start, edit.range.end, edit.new_text) for edit in edits]
    return apply(
        text.content,
        [
            (text.offset(start.line, start.character), text.offset(end.line, end.character), new)
            for start, end, new in places
        ],
    )


@routes.get("/lsp/diagnostics", "LspDiagnostics")
async def diagnose(query: LspDocumentRequest, servers: LanguageServers) -> Diagnostics:
    """List what is wrong with a file as it is on disk; the answer waits until the server has looked."""
    server, path = await servers.find(query.language_id, query.path_to_project, query.uri)
    return await diagnostics.pull(server, path)


@routes.get("/lsp/connect", "LspConnect", status=101)
async def connect(
    request: web.Request, query: LspServerRequest, servers: LanguageServers, sockets: Sockets
) -> web.WebSocketResponse:
    """Start a language server for an editor and speak with it by websocket: one message of the protocol in each.

    The server is this connection's own: an editor has texts that are not on disk. It starts with `initialize`, and
    ends with the connection. What goes wrong at the start is answered before the upgrade.
    """
    require_upgrade(request)
    editor = await servers.edit(query.language_id, query.path_to_project)
    try:
        async with Socket(request, sockets, max_message=MAX_MESSAGE) as socket, TaskSet() as tasks:
            tasks.start(_to_server(socket, editor), "editor messages")
            await socket.while_open(_to_editor(socket, editor))
        return socket.response
    finally:
        await editor.close()


async def _to_server(socket: Socket, editor: Editor) -> None:
    try:
        async for message in socket:
            data = message.data
            await editor.send(data.encode() if isinstance(data, str) else data)
    except BadRequest as error:
        await socket.close(WSCloseCode.INVALID_TEXT, error.message)
    except ServerEnded:
        return  # the other direction says it


async def _to_editor(socket: Socket, editor: Editor) -> None:
    try:
        while True:
            await socket.send((await editor.receive()).decode())
    except ServerEnded as end:
        await socket.close(WSCloseCode.INTERNAL_ERROR, str(end))
