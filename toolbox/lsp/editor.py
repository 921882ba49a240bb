"""A language server that one editor talks to itself: it has unsaved texts, which are nobody else's business."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from toolbox.children.process import Children
from toolbox.errors import BadRequest
from toolbox.lsp.columns import path_in, to_code_points, to_units
from toolbox.lsp.documents import Threads
from toolbox.lsp.errors import StartFailed
from toolbox.lsp.languages import Language, plan
from toolbox.lsp.positions import Text, apply
from toolbox.lsp.server import Initialized
from toolbox.lsp.stdio import ServerProcess


class Editor:
    """The server of one editor, and its messages. Made by `start`, ended by `close`."""

    def __init__(self, process: ServerProcess, threads: Threads, left: Callable[[], None]) -> None:
        self._process = process
        self._left = left
        self._translation = Translation(threads)

    @classmethod
    async def start(
        cls,
        language: Language,
        project: str,
        children: Children,
        env: Mapping[str, str],
        threads: Threads,
        left: Callable[[], None],
    ) -> "Editor":
        """Start a server; `left` is called when it has ended. Raises `StartFailed` and `BadRequest`."""
        launch = await threads.run(plan, language, project, env)
        try:
            process = await ServerProcess.start(children, launch.argv, cwd=project, env=launch.env)
        except OSError as error:
            raise StartFailed(f"{launch.argv[0]} cannot be started: {(error.strerror or 'error').lower()}") from None
        return cls(process, threads, left)

    async def send(self, message: bytes) -> None:
        """Send a message of the editor. Raises `BadRequest` for what is none, and `ServerEnded`."""
        try:
            translated = self._translation.to_server(message)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise BadRequest(f"not a message of the protocol: {error!r}") from None
        self._process.send(translated)
        await self._process.drain()

    async def receive(self) -> bytes:
        """Return the next message of the server. Raises `ServerEnded`."""
        return await self._translation.from_server(await self._process.receive())

    async def close(self) -> None:
        """End the server."""
        try:
            await self._process.end()
        finally:
            self._left()


class Translation:
    """Columns of all messages in UTF-16 units on the editor's side, whatever the server counts."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._needed: bool | None = None
        """None until the server has introduced itself."""
        self._initialize: Any = None
        self._texts: dict[str, Text] = {}
        self._asked: dict[Any, str] = {}

    def to_server(self, body: bytes) -> bytes:
        """Return the editor's message as the server is to get it. Raises `ValueError` and its kin for what is none."""
        if self._needed is False:
            return body
        message = msgspec.json.decode(body)
        method, params = message.get("method"), message.get("params")
        if method == "initialize":
            self._initialize = message.get("id")
        if not self._needed or not isinstance(params, dict):
            return body
        path = path_in(params) or ""
        match method:
            case "textDocument/didOpen":
                self._texts[path] = Text(str(params["textDocument"].get("text", "")))
            case "textDocument/didChange":
                # The whole text instead of what changed: ranges would have to be counted in texts in between.
                content = self._changed(path, params.get("contentChanges", []))
                params["contentChanges"] = [{"text": content}]
            case "textDocument/didClose":
                self._texts.pop(path, None)
            case _:
                if "id" in message and method is not None:
                    self._asked[message["id"]] = path
                to_code_points(params, path, self._texts)
        return msgspec.json.encode(message)

    def _changed(self, path: str, changes: list[Any]) -> str:
        text = self._texts.get(path, Text(""))
        for change in changes:
            if change.get("range") is None:
                text = Text(change["text"])
                continue
            start, end = (change["range"][name] for name in ("start", "end"))
            edit = (text.offset(**_at(start)), text.offset(**_at(end)), change["text"])
            text = Text(apply(text.content, [edit]))
        self._texts[path] = text
        return text.content

    async def from_server(self, body: bytes) -> bytes:
        """Return the server's message as the editor is to get it."""
        if self._needed is False:
            return body
        try:
            message = msgspec.json.decode(body)
        except msgspec.MsgspecError:
            return body
        if "method" not in message and self._needed is None and message.get("id") == self._initialize:
            self._needed = msgspec.convert(message.get("result") or {}, Initialized).counts_code_points
            return body
        path = self._asked.pop(message.get("id"), "") if "method" not in message else ""
        text = self._texts.get(path)
        await to_units(message, (path, text) if text else None, self._texts.get, self._threads)
        return msgspec.json.encode(message)


def _at(position: dict[str, int]) -> dict[str, int]:
    return {"line": position["line"], "units": position["character"]}
