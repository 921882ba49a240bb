"""The examples of `docs/` run as they stand there, and print what is said below them.

A page is one program: its `python` blocks go on from each other. A `ts` or `sh` block is a program of its own. A `text`
block after an example is its output, `...` standing for what differs. Others (`console`, `yaml` ...) only show.
"""

import contextlib
import doctest
import io
import linecache
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from daytona import Daytona

from tests.sdk.conftest import Server

DOCS = Path(__file__).parents[2] / "docs"
BIN = Path(sys.executable).parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
SHOWN = {"console", "dockerfile", "text", "yaml"}


@dataclass(frozen=True)
class Example:
    """A block of a page, and the output that is stated."""

    language: str
    program: str
    output: str


def examples(page: Path) -> list[Example]:
    """Return what a page has to run."""
    found = [Example(*(part or "" for part in match.groups())) for match in FENCE.finditer(page.read_text())]
    return [example for example in found if example.language not in SHOWN]


PAGES = sorted(page.name for page in DOCS.glob("*.md") if examples(page))


@pytest.fixture
def client(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daytona]:
    """Be in an empty directory, as a client of the server; what a failed page leaves is deleted."""
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    daytona = Daytona()
    before = {sandbox.id for sandbox in daytona.list()}
    yield daytona
    for sandbox in daytona.list():
        if sandbox.id not in before:
            sandbox.delete()


def run_python(program: str, name: str, names: dict[str, Any]) -> str:
    """Run a block among the names of those before it, and return what it prints."""
    # Where a traceback finds the lines.
    linecache.cache[name] = (len(program), None, program.splitlines(keepends=True), name)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, name, "exec"), names)
    return printed.getvalue()


def run(*argv: str | Path) -> str:
    """Run a program, which must succeed, and return what it prints."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def same(said: str, printed: str) -> bool:
    """Compare as doctest does, but for white space at the end."""
    return doctest.OutputChecker().check_output(f"{said.rstrip()}\n", f"{printed.rstrip()}\n", doctest.ELLIPSIS)


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, client: Daytona, typescript_sdk: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": page.removesuffix(".md")}
    (tmp_path / "node_modules").symlink_to(typescript_sdk / "node_modules")
    before = {sandbox.id for sandbox in client.list()}
    for number, example in enumerate(examples(DOCS / page)):
        match example.language:
            case "python":
                printed = run_python(example.program, f"{page}:{number}", names)
            case "ts":
                program = tmp_path / f"example-{number}.mts"
                program.write_text(example.program)
                printed = run(BIN / "node", "--disable-warning=ExperimentalWarning", program)
            case "sh":
                printed = run("sh", "-euc", example.program)
            case other:
                raise AssertionError(f"{page}: what is ```{other}?")
        shown = f"{example.program}\nprinted:\n{printed}\nis said to print:\n{example.output}"
        assert same(example.output, printed), shown
    assert {sandbox.id for sandbox in client.list()} == before, "the page leaves sandboxes behind"


def test_every_page_is_linked() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert f"(docs/{page.name})" in readme, page


def test_links_lead_somewhere() -> None:
    for page in (*DOCS.glob("*.md"), *DOCS.parent.glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not link.startswith(("http://", "https://")):
                assert (page.parent / link).exists(), (page.name, link)
