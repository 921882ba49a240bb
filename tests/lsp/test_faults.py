"""Servers that fail, requests that cannot be answered, and what is left behind: nothing."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Daemon, run_daemon
from tests.lsp.conftest import Project
from toolbox.config import ConfigError, ServeConfig
from toolbox.lsp import documents, servers, stdio

PLACE = {"line": 0, "character": 0}


async def error(project: Project, name: str, status: int, code: str, **fields: Any) -> str:
    """Call a route that must fail, and return the message."""
    answer = await project.call(name, status=status, **fields)
    assert (answer["statusCode"], answer["code"], answer["source"]) == (status, code, "DAYTONA_DAEMON")
    message: str = answer["message"]
    return message


def heard(project: Project, method: str) -> list[dict[str, Any]]:
    """Return the messages of a method that the scripted server got."""
    lines = (project.directory / "log.jsonl").read_text().splitlines()
    return [message for message in map(json.loads, lines) if message.get("method") == method]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def recovered(project: Project, **fields: Any) -> Any:
    """Ask until the server has been started again."""
    async with asyncio.timeout(60):
        while True:
            async with project.daemon.http.post(
                "/lsp/hover", json={"languageId": project.language, "pathToProject": project.name, **fields}
            ) as response:
                if response.status != 503:
                    assert response.status == 200, await response.text()
                    return await response.json()
                assert response.headers["Retry-After"]
                assert (await response.json())["code"] == "LSP_SERVER_RESTARTING"
            await asyncio.sleep(0.05)


# Bad input


async def test_what_is_missing_or_not_known(python: Project) -> None:
    for name in ("start", "stop", "did-open", "did-close", "completions", "hover"):
        await error(python, name, 400, "INVALID_REQUEST_BODY", languageId="")
        await error(python, name, 400, "INVALID_REQUEST_BODY", pathToProject=None)
    for name in ("document-symbols", "workspacesymbols", "diagnostics"):
        await error(python, name, 400, "BAD_REQUEST", uri="", languageId="")
    queries: list[tuple[str, dict[str, Any]]] = [
        ("start", {}),
        ("document-symbols", {"uri": "file://m.py"}),
        ("workspacesymbols", {"query": ""}),
    ]
    for name, fields in queries:
        assert "python" in await error(python, name, 400, "BAD_REQUEST", languageId="cobol", **fields)
    for fields in ({"uri": "file://m.py"}, {"uri": "file://m.py", "position": {"line": 0}}):
        await error(python, "hover", 400, "INVALID_REQUEST_BODY", **fields)
    for position in ({"line": -1, "character": 0}, {"line": 0, "character": 2**40}, {"line": "1", "character": 0}):
        await error(python, "completions", 400, "INVALID_REQUEST_BODY", uri="file://m.py", position=position)


async def test_what_is_not_started(python: Project) -> None:
    code = "LSP_SERVER_NOT_INITIALIZED"
    await error(python, "hover", 400, code, uri="file://m.py", position=PLACE)
    await error(python, "did-open", 400, code, uri="file://m.py")
    await error(python, "diagnostics", 400, code, uri="file://m.py")
    await error(python, "workspacesymbols", 400, code, query="a")
    await error(python, "stop", 500, code)


async def test_projects_that_are_none(python: Project) -> None:
    await error(python, "start", 400, "BAD_REQUEST", pathToProject="no/such")
    await error(python, "start", 400, "BAD_REQUEST", pathToProject="project/m.py")
    await error(python, "start", 400, "INVALID_FILE_PATH", pathToProject="a\0b")


async def test_a_server_that_is_not_installed(serve_config: Callable[..., ServeConfig], monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    config = replace(serve_config(), language_servers={"GO": ("no-such-gopls",)})
    async with run_daemon(config) as daemon:
        for language, hint in (("typescript", "npm install -g typescript-language-server"), ("go", "no-such-gopls")):
            project = Project(daemon, language)
            project.write("a", "")
            assert hint in await error(project, "start", 500, "LSP_SERVER_START_FAILED")
            await error(project, "workspacesymbols", 400, "LSP_SERVER_NOT_INITIALIZED", query="x")


async def test_files(python: Project) -> None:
    await python.call("start")
    python.write("a b/ü%41.py", "import os\n")
    outside = python.daemon.work_dir / "outside.py"
    outside.write_text("x = 1\n")
    for uri in ("file://a b/ü%41.py", "file://a%20b/%C3%BC%2541.py", f"file://{python.directory}/a b/ü%41.py", "m.py"):
        assert await python.call("document-symbols", uri=uri)
    # Of the work dir if the project has none of that name.
    (symbol,) = await python.call("document-symbols", uri="file://outside.py")
    assert symbol["location"]["uri"] == outside.as_uri()
    python.write("outside.py", "y = 2\n")
    (symbol,) = await python.call("document-symbols", uri="file://outside.py")
    assert symbol["name"] == "y"
    for uri in ("file://none.py", "file://", "file://a b", "file:///dev/null"):
        assert "no such file" in await error(python, "document-symbols", 400, "BAD_REQUEST", uri=uri)
    await error(python, "did-open", 400, "BAD_REQUEST", uri="file://none.py")
    await error(python, "document-symbols", 400, "INVALID_FILE_PATH", uri="file://a%00b")


async def test_places_beyond_the_text(python: Project) -> None:
    await python.call("start")
    python.write("two.py", "import os\nos.")
    assert "2 lines" in await error(
        python, "hover", 400, "BAD_REQUEST", uri="two.py", position={"line": 2, "character": 0}
    )
    # Beyond the end of a line is its end, by the protocol.
    answer = await python.at("completions", "two.py", 1, 2**31 - 1)
    assert "path" in [item["label"] for item in answer["items"]]
    python.write("empty.py", "")
    assert (await python.at("completions", "empty.py", 0, 0))["items"]


async def test_files_too_large(python: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    await python.call("start")
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 100)
    python.write("large.py", "#" * 101)
    assert "too large" in await error(python, "document-symbols", 400, "BAD_REQUEST", uri="large.py")


async def test_options(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    base = {"HOME": str(tmp_path)}
    config = ServeConfig.load({}, {**base, "TOOLBOX_LSP_GO": "gopls -remote=auto", "TOOLBOX_LSP_C__": "'a b' c"})
    assert config.language_servers == {"GO": ("gopls", "-remote=auto"), "C__": ("a b", "c")}
    for bad in ("'", " "):
        with pytest.raises(ConfigError, match="TOOLBOX_LSP_GO"):
            ServeConfig.load({}, {**base, "TOOLBOX_LSP_GO": bad})


# Real servers that are killed


async def test_killed_while_it_answers(python: Project) -> None:
    await python.call("start")
    await python.call("did-open", uri="m.py")
    (server, *_) = python.servers()
    os.kill(server, signal.SIGSTOP)
    asking = asyncio.gather(
        *(python.at("hover", "m.py", 8, 24, status=503) for _ in range(3)),
        python.call("diagnostics", uri="m.py", status=503),
    )
    await asyncio.sleep(0.2)
    os.kill(server, signal.SIGKILL)
    for answer in await asking:
        assert answer["code"] == "LSP_SERVER_RESTARTING"
        assert "SIGKILL" in answer["message"]
    assert "bar" in (await recovered(python, uri="m.py", position={"line": 8, "character": 24}))["contents"]["value"]


async def test_stopping_ends_the_whole_tree(typescript: Project) -> None:
    await typescript.call("start")
    await typescript.call("document-symbols", uri="m.ts")
    assert len(typescript.servers()) >= 2  # it has tsserver as a child
    await typescript.call("stop")
    assert typescript.servers() == []
    await typescript.call("start")
    await typescript.call("document-symbols", uri="m.ts")


# The scripted one


def script(project: Project, **fields: Any) -> None:
    project.write("script.json", json.dumps(fields))


async def test_a_server_that_ends_again_and_again(scripted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "PAUSE_SECONDS", 0.01)
    script(scripted, die=["textDocument/didOpen"])
    await scripted.call("start")
    await scripted.call("start")
    script(scripted, fail=4)
    await scripted.call("hover", uri="a.txt", position=PLACE, status=503)
    async with asyncio.timeout(30):
        while True:
            async with scripted.daemon.http.post(
                "/lsp/hover",
                json={"languageId": "scripted", "pathToProject": "project", "uri": "a.txt", "position": PLACE},
            ) as response:
                answer = await response.json()
            if response.status != 503:
                break
            await asyncio.sleep(0.01)
    message = answer["message"]
    assert (response.status, answer["code"]) == (500, "LSP_SERVER_START_FAILED")
    assert "exit code 4" in message
    assert "in a row" in message
    script(scripted, answers={"textDocument/hover": None})
    await scripted.call("start")
    assert (await scripted.at("hover", "a.txt", 0, 0)) == {"contents": None}


async def test_documents_come_back_with_the_server(scripted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "PAUSE_SECONDS", 0.01)
    script(scripted, die=["textDocument/rename"], answers={"textDocument/hover": {"contents": "x"}})
    await scripted.call("start")
    await scripted.call("did-open", uri="a.txt")
    await scripted.at("hover", "script.json", 0, 0)  # open, but not because a client said so
    answer = await scripted.at("rename", "a.txt", 0, 0, newName="x", status=503)
    assert "exit code 3: cannot go on" in answer["message"]
    await recovered(scripted, uri="a.txt", position=PLACE)
    names = [Path(message["params"]["textDocument"]["uri"]).name for message in heard(scripted, "textDocument/didOpen")]
    assert names == ["a.txt", "script.json", "a.txt"]


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ({"fail": 5}, "exit code 5"),
        ({"garbage": "Welcome!\r\n\r\n"}, "not the language server protocol"),
        ({"garbage": "Content-Length: 99999999999\r\n\r\n"}, "not the language server protocol"),
        ({"garbage": "Content-Length: 4\r\n\r\nnope"}, "no message"),
        ({"garbage": "x" * 100_000}, "not the language server protocol"),
        ({"errors": {"initialize": [-32603]}}, "as the script says"),
    ],
    ids=["exit", "text", "huge", "no json", "endless", "error"],
)
async def test_servers_that_cannot_start(scripted: Project, behaviour: dict[str, Any], why: str) -> None:
    script(scripted, **behaviour)
    assert why in await error(scripted, "start", 500, "LSP_SERVER_START_FAILED")
    assert scripted.servers() == []
    await error(scripted, "hover", 400, "LSP_SERVER_NOT_INITIALIZED", uri="a.txt", position=PLACE)


async def test_stopped_while_it_starts(scripted: Project) -> None:
    script(scripted, silent=["initialize"])
    starting = asyncio.gather(*(scripted.call("start", status=500) for _ in range(2)))
    await until(lambda: (scripted.directory / "log.jsonl").exists() and heard(scripted, "initialize"))
    await scripted.call("stop")
    for answer in await starting:
        assert answer["code"] == "LSP_SERVER_START_FAILED"
    assert scripted.servers() == []


async def test_a_client_that_goes_away_cancels_its_request(scripted: Project) -> None:
    script(scripted, silent=["textDocument/hover"])
    await scripted.call("start")
    body = {"languageId": "scripted", "pathToProject": "project", "uri": "a.txt", "position": PLACE}
    timeout = aiohttp.ClientTimeout(0.3)
    with pytest.raises(TimeoutError):
        await scripted.daemon.http.post("/lsp/hover", json=body, timeout=timeout)
    await until(lambda: heard(scripted, "$/cancelRequest"))
    (request,) = heard(scripted, "textDocument/hover")
    assert heard(scripted, "$/cancelRequest")[0]["params"] == {"id": request["id"]}


async def test_no_answer_in_time(scripted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    script(scripted, silent=["textDocument/hover"])
    monkeypatch.setattr("toolbox.lsp.server.REQUEST_SECONDS", 0.1)
    await scripted.call("start")
    await error(scripted, "hover", 408, "REQUEST_TIMEOUT", uri="a.txt", position=PLACE)


async def test_answers_of_all_forms(scripted: Project) -> None:
    place = {"start": PLACE, "end": {"line": 0, "character": 3}}
    uri = (scripted.directory / "a.txt").as_uri()
    inner = {"name": "inner", "kind": 12, "range": place, "selectionRange": place}
    script(
        scripted,
        capabilities={"workspaceSymbolProvider": True},
        answers={
            "textDocument/completion": [{"label": "x", "documentation": "text", "textEdit": {}}, {"label": "y"}],
            "textDocument/documentSymbol": [{**inner, "name": "outer", "kind": 5, "detail": "", "children": [inner]}],
            "textDocument/definition": {"uri": uri, "range": place},
            "textDocument/references": None,
            "textDocument/hover": {"contents": [{"language": "c", "value": "int x"}, "text"]},
            "textDocument/formatting": None,
            "workspace/symbol": [{"name": "far", "kind": 13, "location": {"uri": uri}}],
            "textDocument/rename": "nonsense",
        },
        errors={"textDocument/completion": [-32801, -32802]},
    )
    await scripted.call("start")
    answer = await scripted.at("completions", "a.txt", 0, 0)
    document = {"kind": "plaintext", "value": "text"}
    assert answer == {"isIncomplete": False, "items": [{"label": "x", "documentation": document}, {"label": "y"}]}
    location = {"uri": uri, "range": place}
    assert await scripted.call("document-symbols", uri="a.txt") == [
        {"kind": 5, "location": location, "name": "outer"},
        {"kind": 12, "location": location, "name": "inner", "containerName": "outer"},
    ]
    assert await scripted.at("definition", "a.txt", 0, 0) == [location]
    assert await scripted.at("references", "a.txt", 0, 0) == []
    assert (await scripted.at("hover", "a.txt", 0, 0))["contents"]["value"] == "```c\nint x\n```\n\ntext"
    assert await scripted.call("format", uri="a.txt") == {"edits": [], "text": "one\ntwo\n"}
    (symbol,) = await scripted.call("workspacesymbols", query="f")
    assert symbol["location"]["range"] == {"start": PLACE, "end": PLACE}
    fields = {"uri": "a.txt", "position": PLACE, "newName": "x"}
    assert "not understood" in await error(scripted, "rename", 400, "LSP_REQUEST_FAILED", **fields)
    script(scripted, answers={})


async def test_what_the_server_asks_is_answered(scripted: Project) -> None:
    asks = [
        ("workspace/configuration", {"items": [{"section": "a.b"}, {}]}),
        ("client/registerCapability", {"registrations": []}),
        ("window/workDoneProgress/create", {"token": 1}),
        ("workspace/applyEdit", {"edit": {}}),
        ("workspace/workspaceFolders", None),
        ("workspace/diagnostic/refresh", None),
        ("no/such", {}),
    ]
    script(scripted, asks=asks, answers={"textDocument/hover": None})
    await scripted.call("start")
    await scripted.at("hover", "a.txt", 0, 0)
    await until(lambda: (scripted.directory / "log.jsonl").read_text().count('"ask-') == len(asks))
    lines = map(json.loads, (scripted.directory / "log.jsonl").read_text().splitlines())
    replies = {message["id"]: message for message in lines if "method" not in message}
    assert replies["ask-0"]["result"] == [None, {}]
    assert [replies[f"ask-{number}"]["result"] for number in (1, 2, 5)] == [None, None, None]
    assert replies["ask-3"]["result"]["applied"] is False
    assert replies["ask-4"]["result"][0]["uri"] == scripted.directory.as_uri()
    assert replies["ask-6"]["error"]["code"] == -32601


async def test_documents_follow_the_disk(scripted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_UNASKED", 2)
    script(scripted, answers={"textDocument/hover": None})
    await scripted.call("start")
    path = scripted.directory / "a.txt"
    await scripted.call("did-open", uri="a.txt")
    await scripted.at("hover", "a.txt", 0, 0)
    for text in ("one!", "two!", "two!"):  # as long as each other, and as soon after each other as can be
        path.write_text(text)
        await scripted.at("hover", "a.txt", 0, 0)
    changes = [message["params"] for message in heard(scripted, "textDocument/didChange")]
    assert [(each["textDocument"]["version"], each["contentChanges"]) for each in changes] == [
        (2, [{"text": "one!"}]),
        (3, [{"text": "two!"}]),
    ]
    path.unlink()
    await error(scripted, "hover", 400, "BAD_REQUEST", uri="a.txt", position=PLACE)
    for name in "bcd":
        scripted.write(name, "x")
        await scripted.at("hover", name, 0, 0)
    closed = [Path(each["params"]["textDocument"]["uri"]).name for each in heard(scripted, "textDocument/didClose")]
    assert closed == ["a.txt", "b"]
    (scripted.directory / "c").unlink()
    await scripted.call("did-close", uri="c")
    await scripted.call("did-close", uri="c")
    await scripted.at("hover", "d", 0, 0)
    assert len(heard(scripted, "textDocument/didClose")) == 3


async def test_published_and_pulled_diagnostics(scripted: Project) -> None:
    finding = {"range": {"start": PLACE, "end": PLACE}, "message": "bad", "severity": 1}
    script(scripted, publish=[{**finding, "data": {}}])
    await scripted.call("start")
    assert (await scripted.call("diagnostics", uri="a.txt"))["items"] == [finding]
    await scripted.call("stop")
    report = {"kind": "full", "items": [finding, finding]}
    script(scripted, capabilities={"diagnosticProvider": {}}, answers={"textDocument/diagnostic": report})
    await scripted.call("start")
    assert (await scripted.call("diagnostics", uri="a.txt"))["items"] == [finding, finding]


async def test_leaving_the_daemon_with_servers_running(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config()) as daemon:
        project = Project(daemon, "python")
        project.write("m.py", "import os\n")
        await asyncio.gather(project.call("start"), project.call("start"))
        await project.call("did-open", uri="m.py")
    assert project.servers() == []


async def test_stopped_while_it_answers(scripted: Project) -> None:
    script(scripted, silent=["textDocument/hover"])
    await scripted.call("start")
    asking = asyncio.gather(scripted.at("hover", "a.txt", 0, 0, status=400))
    await until(lambda: heard(scripted, "textDocument/hover"))
    await scripted.call("stop")
    assert [answer["code"] for answer in await asking] == ["LSP_SERVER_NOT_INITIALIZED"]


async def test_a_server_that_never_reads_is_started_anew(scripted: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MAX_UNREAD", 1_000_000)
    script(scripted, answers={"textDocument/hover": None})
    await scripted.call("start")
    (server,) = scripted.servers()
    os.kill(server, signal.SIGSTOP)
    for name in ("a", "b"):
        scripted.write(name, "x" * 2_000_000)
    asking = [scripted.at("hover", name, 0, 0, status=503) for name in ("a", "b")]
    for answer in await asyncio.gather(*asking):
        assert answer["code"] == "LSP_SERVER_RESTARTING"
    await recovered(scripted, uri="a.txt", position=PLACE)
    assert scripted.servers() != [server]


async def test_a_server_that_does_not_read(scripted: Project, daemon: Daemon) -> None:
    await scripted.call("start")
    (server,) = scripted.servers()
    os.kill(server, signal.SIGSTOP)
    scripted.write("large.txt", "x" * 3_000_000)
    asking = asyncio.gather(*(scripted.at("hover", "large.txt", 0, 0, status=400) for _ in range(3)))
    async with daemon.http.get("/version") as response:
        assert response.status == 200
    os.kill(server, signal.SIGCONT)
    assert all(answer["code"] == "LSP_REQUEST_FAILED" for answer in await asking)
