"""One language server, from its start to its end."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import msgspec

from toolbox.children.process import Children
from toolbox.errors import BadRequest, RequestTimeout
from toolbox.lsp.columns import to_units
from toolbox.lsp.documents import Document, Documents, Threads
from toolbox.lsp.errors import NotInitialized, RequestFailed, Restarting, ServerEnded, ServerStopped, StartFailed
from toolbox.lsp.languages import Language, plan
from toolbox.lsp.models import Position
from toolbox.lsp.paths import path_of, uri_of
from toolbox.lsp.positions import Text
from toolbox.lsp.published import Published
from toolbox.lsp.rpc import Client
from toolbox.lsp.stdio import ServerProcess

T = TypeVar("T")

START_SECONDS = 60.0
REQUEST_SECONDS = 60.0
_SHUTDOWN_SECONDS = 2.0

_FLAT: dict[str, Any] = {"dynamicRegistration": False}
CAPABILITIES: dict[str, Any] = {
    "general": {"positionEncodings": ["utf-16"]},
    "textDocument": {
        "synchronization": _FLAT,
        "completion": {"completionItem": {"documentationFormat": ["markdown", "plaintext"]}, "contextSupport": True},
        "hover": {"contentFormat": ["markdown", "plaintext"]},
        "documentSymbol": {"hierarchicalDocumentSymbolSupport": False},
        "publishDiagnostics": {"versionSupport": True, "tagSupport": {"valueSet": [1, 2]}},
        **dict.fromkeys(("definition", "references", "rename", "formatting", "diagnostic"), _FLAT),
    },
    "workspace": {"workspaceFolders": True, "configuration": True, "symbol": _FLAT},
}
"""What we can do: hierarchical symbols, links and snippets are left out, since the contract has no place for them."""


class Initialized(msgspec.Struct, rename="camel"):
    """What of the answer to `initialize` matters."""

    capabilities: dict[str, Any] = {}
    server_info: dict[str, Any] | None = None

    @property
    def counts_code_points(self) -> bool:
        """Whether its columns are code points: announced, or as python-lsp-server has them, unannounced."""
        encoding = self.capabilities.get("positionEncoding")
        return encoding == "utf-32" or (encoding is None and (self.server_info or {}).get("name") == "pylsp")


class LanguageServer:
    """A running, initialized server. Made by `start`, ended by `stop`."""

    def __init__(self, language: Language, project: str, process: ServerProcess, threads: Threads) -> None:
        self.language_id = language.id
        self.project = project
        self.threads = threads
        self.published = Published()
        self._options: Mapping[str, Any] = {}
        self._process = process
        self._client = Client(process, self._answer, self._notified, self.published.end)
        self._documents = Documents(threads, language.id, self._notify)
        self._facts = Initialized()
        self._turn = asyncio.Lock()

    @classmethod
    async def start(
        cls, language: Language, project: str, children: Children, env: Mapping[str, str], threads: Threads
    ) -> Self:
        """Start a server. Raises `StartFailed` and `BadRequest`."""
        launch = await threads.run(plan, language, project, env)
        try:
            process = await ServerProcess.start(children, launch.argv, cwd=project, env=launch.env)
        except OSError as error:
            raise StartFailed(f"{launch.argv[0]} cannot be started: {(error.strerror or 'error').lower()}") from None
        server = cls(language, project, process, threads)
        server._options = launch.options
        try:
            await server._initialize()
        except BaseException as error:
            await server._release(grace=0)
            if isinstance(error, ServerEnded | RequestFailed | RequestTimeout):
                raise StartFailed(f"{launch.argv[0]}: {error}") from None
            raise
        return server

    async def _initialize(self) -> None:
        self._client.start()
        root = uri_of(self.project)
        folders = [{"uri": root, "name": os.path.basename(self.project) or "/"}]
        params = {
            # No process to watch: as another user it could not be, and we end what we started.
            "processId": None,
            "clientInfo": {"name": "sandbox-toolbox"},
            "rootUri": root,
            "rootPath": self.project,
            "workspaceFolders": folders,
            "initializationOptions": self._options,
            "capabilities": CAPABILITIES,
        }
        answer = await self._client.request("initialize", params, START_SECONDS)
        self._facts = _convert(answer, Initialized) or Initialized()
        self._client.notify("initialized", {})

    def _answer(self, method: str, params: msgspec.Raw) -> Any:
        """Answer a request of the server."""
        match method:
            case "workspace/configuration":
                items = msgspec.json.decode(params).get("items", [])
                return [self._setting(item.get("section")) for item in items]
            case "workspace/workspaceFolders":
                return [{"uri": uri_of(self.project), "name": self.project}]
            case "workspace/applyEdit":
                return {"applied": False, "failureReason": "files are changed by clients"}
            case "window/showDocument":
                return {"success": False}
            case (
                "client/registerCapability"
                | "client/unregisterCapability"
                | "window/workDoneProgress/create"
                | "window/showMessageRequest"
            ):
                return None
            case _ if method.startswith("workspace/") and method.endswith("/refresh"):
                return None
            case _:
                raise LookupError(method)

    def _setting(self, section: str | None) -> Any:
        value: Any = self._options
        for word in (section or "").split(".") if section else ():
            value = value.get(word) if isinstance(value, Mapping) else None
        return value

    def _notify(self, method: str, params: Any) -> None:
        """Tell the server what became of a document: what it published about it before is no longer true."""
        path = path_of(params["textDocument"]["uri"])
        if method == "textDocument/didClose":
            self.published.forget(path)
        else:
            self.published.expect(path)
        self._client.notify(method, params)

    def _notified(self, method: str, params: msgspec.Raw) -> None:
        if method == "textDocument/publishDiagnostics":
            self.published.take(params)

    # Its end

    async def ended(self) -> str:
        """Wait until it has ended by itself and return why."""
        await self._client.ended.wait()
        return str(self._client.end)

    async def stop(self) -> None:
        """Ask it to end, then end it."""
        with contextlib.suppress(ServerEnded, RequestFailed, RequestTimeout):
            await self._client.request("shutdown", None, _SHUTDOWN_SECONDS)
            self._client.notify("exit", None)
        await self._release(grace=1.0)

    async def _release(self, grace: float) -> None:
        await self._client.close()
        await self._process.end(grace)

    # What can be asked

    def can(self, capability: str) -> bool:
        """Tell whether it announced a capability."""
        return self._facts.capabilities.get(capability) not in (None, False)  # `{}` is a yes

    def has_command(self, name: str) -> bool:
        """Tell whether it announced a command."""
        provider = self._facts.capabilities.get("executeCommandProvider") or {}
        return name in provider.get("commands", ())

    @property
    def has_documents(self) -> bool:
        """Whether it knows any document."""
        return len(self._documents) > 0

    @property
    def opened(self) -> list[str]:
        """The paths of the documents that clients have opened."""
        return self._documents.asked

    async def open(self, path: str) -> None:
        """Open a document for as long as no client closes it. Raises `BadRequest`."""
        with self._typed():
            async with self._turn:
                await self._documents.sync(path, asked=True)

    async def close(self, paths: Iterable[str]) -> None:
        """Close the first of these documents that is open, if one is."""
        with self._typed():
            async with self._turn:
                path = next(filter(self._documents.get, paths), None)
                if path is not None:
                    self._documents.close(path)

    async def ask(self, method: str, params: Mapping[str, Any], kind: type[T]) -> T | None:
        """Send a request about the whole project, and return its result."""
        with self._typed():
            async with self._turn:
                await self._documents.sync()
                pending = self._client.send(method, params)
            return await self._result(await pending.result(REQUEST_SECONDS), None, kind)

    async def ask_about(
        self,
        path: str,
        method: str,
        kind: type[T],
        *,
        position: Position | None = None,
        places: bool = True,
        **params: Any,
    ) -> tuple[T | None, Document]:
        """Send a request about a document as it is on disk, and return its result and the document.

        `places` says that there may be positions in the result. Raises `BadRequest` for a file that is not there and
        a line that the file does not have, `RequestFailed`, `RequestTimeout`, `Restarting`.
        """
        with self._typed():
            async with self._turn:
                document = await self._shown(path)
                if position is not None:
                    params["position"] = self._place(document.text, position)
                pending = self._client.send(method, {"textDocument": {"uri": document.uri}, **params})
                text = document.text
            with document.in_use():
                answer = await pending.result(REQUEST_SECONDS)
            if not places:
                return _convert(answer, kind), document
            return await self._result(answer, (path, text), kind), document

    @contextlib.asynccontextmanager
    async def showing(self, path: str) -> AsyncIterator[Document]:
        """Give a document of which the server knows the latest content, and keep it open. Raises `BadRequest`."""
        with self._typed():
            async with self._turn:
                document = await self._shown(path)
            with document.in_use():
                yield document

    async def _shown(self, path: str) -> Document:
        document = await self._documents.sync(path)
        assert document is not None  # noqa: S101 -- a path gives one
        return document

    async def adapt(self, value: Any, path: str) -> Any:
        """Return a decoded value of the server with all columns in UTF-16 units; `path` is what it is about."""
        document = self._documents.get(path)
        about = (path, document.text) if document else None
        return await self._in_units(value, about) if self._facts.counts_code_points else value

    @contextlib.contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except ServerStopped as end:
            raise NotInitialized(str(end)) from None
        except ServerEnded as end:
            raise Restarting(f"{end}; it is being started again", headers={"Retry-After": "1"}) from None

    def _place(self, text: Text, position: Position) -> dict[str, int]:
        """Return a position as the server counts; beyond the end of its line means that end."""
        if position.line >= len(text.lines):
            raise BadRequest(f"line {position.line} is beyond the end: the file has {len(text.lines)} lines")
        units = min(position.character, text.length(position.line))
        column = text.code_points(position.line, units) if self._facts.counts_code_points else units
        return {"line": position.line, "character": column}

    async def _result(self, answer: msgspec.Raw, about: tuple[str, Text] | None, kind: type[T]) -> T | None:
        if not self._facts.counts_code_points:
            return _convert(answer, kind)
        return _convert(await self._in_units(msgspec.json.decode(answer), about), kind)

    async def _in_units(self, value: Any, about: tuple[str, Text] | None) -> Any:
        return await to_units(value, about, self._documents.text, self.threads)


def _convert(value: Any, kind: type[T]) -> T | None:
    """Return an answer of the server as `kind`, or None. Raises `RequestFailed` when it is of another shape."""
    try:
        if isinstance(value, msgspec.Raw):
            return None if bytes(value) == b"null" else msgspec.json.decode(value, type=kind)
        return None if value is None else msgspec.convert(value, kind)
    except msgspec.MsgspecError as error:
        raise RequestFailed(f"the language server's answer is not understood: {error}") from None
