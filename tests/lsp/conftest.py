"""Real language servers, and one of our own that misbehaves on demand."""

import shlex
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemon, run_daemon
from toolbox.config import ServeConfig

PYTHON = """import os


class Foo:
    def bar(self, x):
        return x


s = "😀"; f = Foo(); f.bar(1)
undefined_name
"""
TYPESCRIPT = """class Foo { bar(x: number) { return x } }
const s = "😀"; const f = new Foo(); f.bar(1)
const n: number = "x"
"""


@dataclass(frozen=True)
class Project:
    """A project, and one language server of it."""

    daemon: Daemon
    language: str
    name: str = "project"

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self.daemon.work_dir / self.name

    def write(self, name: str, text: str) -> Path:
        """Write a file of it."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    async def call(self, name: str, *, status: int = 200, **fields: Any) -> Any:
        """Call a route with fields beside language and project, and return the answer."""
        everything = {"languageId": self.language, "pathToProject": self.name, **fields}
        queries = ("document-symbols", "workspacesymbols", "diagnostics")
        send: dict[str, Any] = {"params": everything} if name in queries else {"json": everything}
        method = "GET" if name in queries else "POST"
        async with self.daemon.http.request(method, f"/lsp/{name}", **send) as response:
            assert response.status == status, await response.text()
            return await response.json() if response.content_length else None

    async def at(self, name: str, file: str, line: int, character: int, **fields: Any) -> Any:
        """Call a route about a place."""
        position = {"line": line, "character": character}
        return await self.call(name, uri=f"file://{file}", position=position, **fields)

    def servers(self) -> list[int]:
        """Return the processes that run in the project."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink() == self.directory and (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return found


@pytest.fixture
def with_node(path_with_node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the TypeScript language server on the PATH."""
    monkeypatch.setenv("PATH", path_with_node)


@pytest.fixture
async def python(daemon: Daemon) -> Project:
    """Return a Python project without a running server."""
    project = Project(daemon, "python")
    project.write("m.py", PYTHON)
    return project


@pytest.fixture
async def typescript(with_node: None, daemon: Daemon) -> Project:
    """Return a TypeScript project without a running server."""
    project = Project(daemon, "typescript")
    project.write("m.ts", TYPESCRIPT)
    return project


@pytest.fixture
async def scripted(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Project]:
    """Return a project whose server does what the file `script.json` in it says (see `scripted_server.py`)."""
    server = shlex.split(f"{sys.executable} {Path(__file__).parent / 'scripted_server.py'}")
    config = replace(serve_config(), language_servers={"SCRIPTED": tuple(server)})
    async with run_daemon(config) as daemon:
        project = Project(daemon, "scripted")
        project.write("a.txt", "one\ntwo\n")
        project.write("script.json", "{}")
        yield project
