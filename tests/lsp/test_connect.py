"""The raw protocol over a websocket: one message each, and an editor in a browser that uses it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.conftest import run_daemon
from tests.lsp import browser
from tests.lsp.conftest import PYTHON, Project
from toolbox.config import ServeConfig
from toolbox.lsp import servers

HERE = Path(__file__).parent


class Speaker:
    """An editor without a window."""

    def __init__(self, project: Project, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.project = project
        self.socket = socket
        self.notifications: list[dict[str, Any]] = []
        self._number = 0

    async def notify(self, method: str, **params: Any) -> None:
        await self.socket.send_json({"jsonrpc": "2.0", "method": method, "params": params})

    async def request(self, method: str, **params: Any) -> Any:
        self._number += 1
        await self.socket.send_json({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        return (await self.receive(lambda message: message.get("id") == self._number and "method" not in message))[
            "result"
        ]

    async def receive(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the next message that is wanted; what the server asks meanwhile is answered."""
        while True:
            message: dict[str, Any] = await self.socket.receive_json(timeout=60)
            if wanted(message):
                return message
            if "id" not in message:
                self.notifications.append(message)
            elif "method" in message:
                await self.socket.send_json({"jsonrpc": "2.0", "id": message["id"], "result": None})

    async def published(self) -> Any:
        """Return diagnostics that were published, waiting for them if need be."""
        method = "textDocument/publishDiagnostics"
        for message in self.notifications:
            if message["method"] == method:
                return message["params"]
        return (await self.receive(lambda message: message.get("method") == method))["params"]

    async def open(self, name: str, text: str) -> str:
        """Introduce ourselves and open a document, which need not be on disk."""
        root = self.project.directory
        capabilities: dict[str, Any] = {"textDocument": {"publishDiagnostics": {}}}
        await self.request("initialize", processId=None, rootUri=root.as_uri(), capabilities=capabilities)
        await self.notify("initialized")
        uri = (root / name).as_uri()
        document = {"uri": uri, "languageId": self.project.language, "version": 1, "text": text}
        await self.notify("textDocument/didOpen", textDocument=document)
        return uri


@asynccontextmanager
async def connected(project: Project) -> AsyncIterator[Speaker]:
    query = {"languageId": project.language, "pathToProject": project.name}
    async with project.daemon.http.ws_connect("/lsp/connect", params=query, max_msg_size=0) as socket:
        yield Speaker(project, socket)


async def test_python_with_unsaved_text(python: Project) -> None:
    async with connected(python) as editor:
        uri = await editor.open("unsaved.py", "import os\n")
        # Two changes in one message, the second counted in the text after the first.
        start = {"line": 1, "character": 0}
        changes = [
            {"range": {"start": start, "end": start}, "text": 's = "😀"; x = 1; y'},
            {"range": {"start": {"line": 1, "character": 17}, "end": {"line": 1, "character": 18}}, "text": "os."},
        ]
        document = {"uri": uri, "version": 2}
        await editor.notify("textDocument/didChange", textDocument=document, contentChanges=changes)
        place = {"line": 1, "character": 20}
        answer = await editor.request("textDocument/completion", textDocument={"uri": uri}, position=place)
        assert "altsep" in [item["label"] for item in answer["items"]]
        symbols = await editor.request("textDocument/documentSymbol", textDocument={"uri": uri})
        (found,) = [symbol for symbol in symbols if symbol["name"] == "x"]
        assert found["location"]["range"]["start"] == {"line": 1, "character": 10}
        published = await editor.published()
        assert published["uri"] == uri
        # Of another file, which only the disk has.
        python.write("other.py", 'e = "😀"; class_ = 1\n')
        text = "from other import class_\n"
        await editor.notify(
            "textDocument/didChange", textDocument={"uri": uri, "version": 3}, contentChanges=[{"text": text}]
        )
        place = {"line": 0, "character": 20}
        (target,) = await editor.request("textDocument/definition", textDocument={"uri": uri}, position=place)
        assert target["range"]["start"] == {"line": 0, "character": 10}


async def test_typescript_with_unsaved_text(typescript: Project) -> None:
    async with connected(typescript) as editor:
        uri = await editor.open("unsaved.ts", 'const s = "😀"; const f = [1]; f.')
        place = {"line": 0, "character": 33}
        answer = await editor.request("textDocument/completion", textDocument={"uri": uri}, position=place)
        assert "concat" in [item["label"] for item in answer["items"]]
    # Beside it there is none that others could use.
    await typescript.call("workspacesymbols", query="x", status=400)


async def test_the_server_ends_with_its_editor(python: Project) -> None:
    async with connected(python) as one, connected(python) as other:
        await one.open("a.py", "")
        await other.open("a.py", "")
        assert len(python.servers()) >= 2
        await one.socket.close()
        await other.request("textDocument/documentSymbol", textDocument={"uri": "file:///a.py"})
    async with python.daemon.http.get("/version"):
        pass
    await ended(python)


async def ended(project: Project) -> None:
    async with asyncio.timeout(30):
        while project.servers():
            await asyncio.sleep(0.02)


async def test_the_connection_ends_with_its_server(scripted: Project) -> None:
    scripted.write("script.json", json.dumps({"die": ["textDocument/hover"]}))
    async with connected(scripted) as editor:
        await editor.open("a.txt", "")
        await editor.socket.send_json({"jsonrpc": "2.0", "id": 9, "method": "textDocument/hover", "params": {}})
        assert (await editor.socket.receive()).type == aiohttp.WSMsgType.CLOSE
        assert editor.socket.close_code == 1011


@pytest.mark.parametrize("message", ["nonsense", "[]", '"x"'])
async def test_what_is_no_message(python: Project, message: str) -> None:
    async with connected(python) as editor:
        await editor.socket.send_str(message)
        assert (await editor.socket.receive()).type == aiohttp.WSMsgType.CLOSE
        assert editor.socket.close_code == 1007


async def test_changes_that_make_no_sense(python: Project) -> None:
    async with connected(python) as editor:
        uri = await editor.open("a.py", "")
        changes = [{"range": {"start": {}, "end": {}}, "text": ""}]
        await editor.notify("textDocument/didChange", textDocument={"uri": uri, "version": 2}, contentChanges=changes)
        with pytest.raises(TypeError):  # closed
            await editor.receive(lambda _: False)
        assert editor.socket.close_code == 1007


async def test_what_is_refused_before_the_upgrade(python: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    query = {"languageId": "python", "pathToProject": "project"}
    async with python.daemon.http.get("/lsp/connect", params=query) as response:
        assert response.status == 400
    for wrong in ({"languageId": "cobol"}, {"pathToProject": "none"}):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await python.daemon.http.ws_connect("/lsp/connect", params=query | wrong)
        assert caught.value.status == 400
    monkeypatch.setattr(servers, "MAX_EDITORS", 1)
    async with connected(python):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await python.daemon.http.ws_connect("/lsp/connect", params=query)
        assert caught.value.status == 503
    # Its place is free once its server is gone: a moment after the websocket.
    async with asyncio.timeout(30):
        while True:
            with suppress(aiohttp.WSServerHandshakeError):
                async with connected(python) as editor:
                    await editor.open("a.py", "")
                break
            await asyncio.sleep(0.02)


@asynccontextmanager
async def page_server(node_programs: Path) -> AsyncIterator[str]:
    """Serve the page with the editor."""
    app = web.Application()
    app.router.add_static("/monaco/", node_programs / "node_modules/monaco-editor/min")
    app.router.add_static("/", HERE)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


async def test_an_editor_in_a_browser(
    serve_config: Callable[..., ServeConfig], node_programs: Path, tmp_path: Path
) -> None:
    program = browser.find()
    if program is None:
        pytest.skip("not possible here: no Chromium")
    async with page_server(node_programs) as origin:
        config = serve_config(token="secret", allow_origins=origin)
        async with run_daemon(config, Authorization="Bearer secret") as daemon:
            project = Project(daemon, "python")
            file = project.write("m.py", PYTHON)
            start = {
                "socket": f"{daemon.url.replace('http', 'ws')}/lsp/connect?languageId=python&pathToProject=project"
                "&DAYTONA_SANDBOX_AUTH_KEY=secret",
                "uri": file.as_uri(),
                "root": project.directory.as_uri(),
                "language": "python",
                "text": PYTHON,
            }
            url = f"{origin}/monaco.html#{quote(json.dumps(start))}"
            async with browser.open_page(program, tmp_path / "profile", url) as page:
                assert await page.evaluate("done") == "ready"
                await _shows_diagnostics(page)
                await _completes(page)
            await ended(project)


async def _shows_diagnostics(page: browser.Page) -> None:
    await page.until("document.querySelector('.squiggly-error') !== null")
    markers = await page.evaluate("monaco.editor.getModelMarkers({})")
    (worst,) = [marker for marker in markers if marker["severity"] == 8]
    assert "undefined_name" in worst["message"]
    assert (worst["startLineNumber"], worst["startColumn"], worst["endColumn"]) == (10, 1, 16)


async def _completes(page: browser.Page) -> None:
    """Type at the end of the line with the character beyond 16 bits, and take what is suggested."""
    await page.evaluate("editor.focus(), editor.setPosition({lineNumber: 9, column: 100})")
    await page.type("; f.")
    rows = "[...document.querySelectorAll('.suggest-widget.visible .monaco-list-row')].map((row) => row.ariaLabel)"
    await page.until(f"{rows}.some((label) => label.startsWith('bar(x)'))")
    await page.type("ba")
    await page.command("Input.dispatchKeyEvent", type="rawKeyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    await page.until("editor.getModel().getLineContent(9).endsWith('; f.bar')")
    # What is wrong with the new text is shown, too.
    await page.evaluate("editor.setPosition({lineNumber: 11, column: 1})")
    await page.type("other_name")
    await page.until("monaco.editor.getModelMarkers({}).some((marker) => marker.message.includes('other_name'))")
