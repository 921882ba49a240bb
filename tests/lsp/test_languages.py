"""What python-lsp-server and typescript-language-server know, by way of the daemon."""

import asyncio
from typing import Any

import pytest

from tests.conftest import Daemon
from tests.lsp.conftest import Project

FILES = {"python": "m.py", "typescript": "m.ts"}
LINES = {"python": 8, "typescript": 1}


@pytest.fixture(params=["python", "typescript"])
def stopped(request: pytest.FixtureRequest) -> Project:
    """Return a project of each language."""
    found: Project = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def project(stopped: Project) -> Project:
    """Return a project whose server runs."""
    await stopped.call("start")
    return stopped


def after(project: Project, text: str) -> int:
    """Return the column in UTF-16 units after `text` in the line of `FILES` that has a character beyond 16 bits."""
    line = (project.directory / FILES[project.language]).read_text().splitlines()[LINES[project.language]]
    return len(line[: line.index(text) + len(text)].encode("utf-16-le")) // 2


def changed(text: str, edits: list[dict[str, Any]]) -> str:
    """Return `text` after edits, counted in UTF-16 units."""
    lines = text.splitlines(keepends=True)

    def offset(place: dict[str, int]) -> int:
        before = "".join(lines[: place["line"]])
        return len(before.encode("utf-16-le")) + 2 * place["character"]

    data = text.encode("utf-16-le")
    for edit in sorted(edits, key=lambda edit: offset(edit["range"]["start"]), reverse=True):
        start, end = offset(edit["range"]["start"]), offset(edit["range"]["end"])
        data = data[:start] + edit["newText"].encode("utf-16-le") + data[end:]
    return data.decode("utf-16-le")


async def test_completions(project: Project) -> None:
    file, line = FILES[project.language], LINES[project.language]
    await project.call("did-open", uri=f"file://{file}")
    answer = await project.at("completions", file, line, after(project, " f."), context={"triggerKind": 1})
    names = [item["label"].partition("(")[0] for item in answer["items"]]
    assert "bar" in names
    assert "abs" not in names
    assert answer["isIncomplete"] is False
    assert all(isinstance(item.get("documentation", {}), dict) for item in answer["items"])
    assert (await project.at("completions", file, 0, 0))["items"]
    await project.call("did-close", uri=f"file://{file}")


async def test_symbols(project: Project) -> None:
    uri = (project.directory / FILES[project.language]).as_uri()
    of_file = await project.call("document-symbols", uri=f"file://{FILES[project.language]}")
    assert {"Foo", "bar", "f", "s"} <= {symbol["name"] for symbol in of_file}
    assert {symbol["location"]["uri"] for symbol in of_file} == {uri}
    assert all(type(symbol["kind"]) is int for symbol in of_file)
    place = next(symbol["location"]["range"]["start"] for symbol in of_file if symbol["name"] == "f")
    assert place["character"] in (after(project, "; "), after(project, "const f") - 1 if "ts" in uri else -1)


async def test_symbols_of_the_project_before_any_file_is_open(project: Project) -> None:
    found = await project.call("workspacesymbols", query="Fo")
    assert [(symbol["name"], symbol["kind"]) for symbol in found] == [("Foo", 5)]
    assert found[0]["location"]["uri"] == (project.directory / FILES[project.language]).as_uri()
    assert await project.call("workspacesymbols", query="NoSuchName") == []


async def test_beyond_the_sdk(project: Project) -> None:
    file, line, column = FILES[project.language], LINES[project.language], after(project, " f.") + 1
    path = project.directory / file
    hover = await project.at("hover", file, line, column)
    assert "bar" in hover["contents"]["value"]
    (definition,) = await project.at("definition", file, line, column)
    assert definition["uri"] == path.as_uri()
    uses = await project.at("references", file, line, column)
    expected = {"start": {"line": line, "character": column - 1}, "end": {"line": line, "character": column + 2}}
    assert [use["range"] for use in uses] == [definition["range"], expected]
    if project.language == "python":  # the other one gives the declaration all the same
        others = await project.at("references", file, line, column, includeDeclaration=False)
        assert [use["range"] for use in others] == [expected]
    edit = await project.at("rename", file, line, column, newName="qux")
    assert list(edit["changes"]) == [path.as_uri()]
    text = path.read_text()
    renamed = text.replace("f.bar", "f.qux").replace("bar(self", "qux(self").replace("{ bar", "{ qux")
    assert changed(text, edit["changes"][path.as_uri()]) == renamed
    assert path.read_text() == text


async def test_formatting(project: Project) -> None:
    file = FILES[project.language]
    path = project.directory / file
    if project.language == "python":
        path.write_text('x = {"😀":1}; y=2\n')
        expected = 'x = {"😀": 1}\ny = 2\n'
    else:
        path.write_text('const x = "😀";const y=2\n')
        expected = 'const x = "😀"; const y = 2\n'
    answer = await project.call("format", uri=f"file://{file}")
    assert answer["text"] == expected
    assert changed(path.read_text(), answer["edits"]) == expected


async def test_diagnostics_follow_the_disk(project: Project) -> None:
    file = FILES[project.language]
    line, column, word = (9, 0, "undefined_name") if project.language == "python" else (2, 6, "string")
    answer = await project.call("diagnostics", uri=f"file://{file}")
    assert answer["uri"] == (project.directory / file).as_uri()
    worst = [item for item in answer["items"] if item["severity"] == 1]
    assert [item["range"]["start"] for item in worst] == [{"line": line, "character": column}]
    assert word in worst[0]["message"]
    clean = "x = 1\n" if project.language == "python" else "export const x = 1\n"
    for text, count in ((clean, 0), (clean + clean[:-1] + "0\n", None), (clean, 0), (clean, 0)):
        project.write(file, text)
        answer = await project.call("diagnostics", uri=f"file://{file}")
        assert count is None or answer["items"] == []


async def test_all_of_many_requests_are_answered(project: Project) -> None:
    file, line = FILES[project.language], LINES[project.language]
    column = after(project, " f.")
    names = ["completions", "hover", "definition", "references"] * 12
    requests = [project.at(name, file, line, column) for name in names]
    requests += [project.call("document-symbols", uri=f"file://{file}") for _ in range(2)]
    answers = await asyncio.gather(*requests)
    assert len(answers) == 50
    assert all(answer is not None for answer in answers)


async def test_one_server_whoever_starts_it(project: Project) -> None:
    before = set(project.servers())
    for name in (project.name, f"{project.name}/", str(project.directory), f"./{project.name}/."):
        await asyncio.gather(*(project.call("start", pathToProject=name) for _ in range(5)))
    assert set(project.servers()) == before
    await project.call("stop", pathToProject=str(project.directory))
    assert project.servers() == []
    await project.call("hover", uri="file://m", position={"line": 0, "character": 0}, status=400)


async def test_javascript(typescript: Project) -> None:
    project = Project(typescript.daemon, "javascript", "scripts")
    project.write("lib.js", "/** Adds.\n * @param {number} a */\nexport function add(a) { return a + 1 }\n")
    project.write("a.js", "import { add } from './lib.js'\nadd(1).\n")
    await project.call("start")
    names = [item["label"] for item in (await project.at("completions", "a.js", 1, 7))["items"]]
    assert "toFixed" in names
    (definition,) = await project.at("definition", "a.js", 1, 1)
    assert definition["uri"] == (project.directory / "lib.js").as_uri()
    assert [symbol["name"] for symbol in await project.call("workspacesymbols", query="add")][:1] == ["add"]


async def test_libraries_of_the_projects_own_python(python: Project, daemon: Daemon) -> None:
    await daemon.execute("python3 -m venv --without-pip .venv", cwd=python.name, timeout=60)
    (site,) = python.directory.glob(".venv/lib/python*/site-packages")
    (site / "only_here.py").write_text("def from_the_library(): pass\n")
    python.write("m.py", "import only_here\nonly_here.\n")
    await python.call("start")
    names = [item["label"] for item in (await python.at("completions", "m.py", 1, 10))["items"]]
    assert "from_the_library()" in names


async def test_symbols_of_python_files(python: Project) -> None:
    python.write(
        "pkg/a.py",
        '"""class InText:"""\n# def in_comment(): pass\nX: int = 1; Y = 2\n@decorate\nclass Outer:\n'
        '    """def in_text(): pass"""\n    async def run(self): pass\n    class Inner:\n        def walk(self): pass\n'
        'def plain(x="def in_string"):\n    def nested(): pass\n"😀"; 1\nif True:\n    def guarded(): pass\n',
    )
    for hidden in ("node_modules/x.py", ".hidden/x.py", "env/x.py"):
        python.write(hidden, "class Outer: pass\n")
    python.write("env/pyvenv.cfg", "")
    python.write("bad.py", "class Unfinished(:\n")
    (python.directory / "latin.py").write_bytes(b"class Latin: # \xe9\n    pass\n")
    await python.call("start")
    found = await python.call("workspacesymbols", query="")
    names = {(each["name"], each["kind"], each.get("containerName")) for each in found}
    assert names == {
        *(("Foo", 5, None), ("bar", 6, "Foo"), ("s", 13, None), ("X", 13, None), ("Outer", 5, None)),
        *(("run", 6, "Outer"), ("Inner", 5, "Outer"), ("walk", 6, "Inner"), ("plain", 12, None)),
        *(("nested", 12, "plain"), ("guarded", 12, None), ("Unfinished", 5, None), ("Latin", 5, None)),
    }
    (walk,) = await python.call("workspacesymbols", query="WALK")
    assert walk["location"]["range"] == {"start": {"line": 8, "character": 12}, "end": {"line": 8, "character": 16}}
