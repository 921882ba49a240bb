"""`POST /process/code-run` of JavaScript and TypeScript, with real Nodes and runners."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemon, run_daemon
from tests.process.test_execute import gone, pid_in
from toolbox.config import ServeConfig
from toolbox.process.node import _wheel

NODE = Path(_wheel() or "")
LANGUAGES = ("javascript", "typescript")


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Return a directory to be the sandbox's whole PATH; nothing is in it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


@pytest.fixture
async def daemon(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon."""
    async with run_daemon(serve_config()) as running_daemon:
        yield running_daemon


async def answer_of(daemon: Daemon, language: str, code: str, path: Path, **fields: object) -> dict[str, Any]:
    body = {"code": code, "language": language, "envs": {"PATH": str(path)}, **fields}
    async with daemon.http.post("/process/code-run", json=body) as response:
        answer: dict[str, Any] = await response.json()
        return {**answer, "status": response.status} if response.status != 200 else answer


def old_node(places: Path) -> None:
    """Put a Node into the PATH that says it is too old to strip types, and otherwise is the real one."""
    (places / "node").write_text(f'#!/bin/sh\n[ "$1" = -e ] && exit 40\nexec {NODE} --no-strip-types "$@"\n')
    (places / "node").chmod(0o755)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("code", "exit_code", "output"),
    [
        ("console.log(1 + 1, '€')", 0, "2 €\n"),
        ("console.log(typeof require('os').EOL, __filename)", 0, "string [stdin]\n"),
        ("import fs from 'fs'; console.log(typeof fs.readFileSync)", 0, "function\n"),
        ("const x = await Promise.resolve(3); console.log(x)", 0, "3\n"),
        ("console.log('o'); console.error('e'); console.log('o')", 0, "o\ne\no\n"),
        ("console.log(require('fs').readFileSync(0).length)", 0, "0\n"),
        ("process.exit(5)", 5, ""),
        ("process.kill(process.pid, 'SIGKILL')", 137, ""),
        ("setTimeout(() => console.log('late'), 20)", 0, "late\n"),
    ],
)
async def test_a_program(daemon: Daemon, places: Path, language: str, code: str, exit_code: int, output: str) -> None:
    answer = await answer_of(daemon, language, code, places)
    assert (answer["exitCode"], answer["result"]) == (exit_code, output)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_arguments_pass_exactly(daemon: Daemon, places: Path, language: str) -> None:
    argv = ["a b", "$HOME", "'", "", "--eval", "-r"]
    code = "console.log(JSON.stringify([process.argv.slice(1), process.execArgv.join().includes('arguments')]))"
    answer = await answer_of(daemon, language, code, places, argv=argv)
    assert answer["result"] == '[["a b","$HOME","\'","","--eval","-r"],false]\n'


@pytest.mark.parametrize("language", LANGUAGES)
async def test_errors(daemon: Daemon, places: Path, language: str) -> None:
    answer = await answer_of(daemon, language, "\nfunction f() { throw new Error('boom') }\nf()", places)
    assert answer["exitCode"] == 1
    assert answer["result"].startswith("[stdin]:2\n")
    assert "Error: boom\n    at f ([stdin]:2:22)\n    at [stdin]:3:1\n" in answer["result"]
    answer = await answer_of(daemon, language, "let = = 1", places)
    assert answer["exitCode"] == 1
    assert "SyntaxError" in answer["result"]
    answer = await answer_of(daemon, language, "1\0", places)
    assert answer["exitCode"] == 1
    assert "SyntaxError" in answer["result"]


async def test_what_a_program_forks_gets_its_arguments_whole(daemon: Daemon, places: Path) -> None:
    (daemon.work_dir / "child.js").write_text("console.log(process.argv.slice(1).join())")
    code = "require('child_process').fork('child.js', ['-', 'x'])"
    answer = await answer_of(daemon, "javascript", code, places)
    assert answer == {"exitCode": 0, "result": f"{daemon.work_dir}/child.js,-,x\n"}


TYPES = (
    "enum Color { Red = 3 }\nclass Point { constructor(public x: number) {} }\nconst wrong: string = new Point(4).x\n"
    "import * as os from 'os'\nconsole.log(Color.Red, wrong, typeof os.cpus, process.argv.slice(1))\n"
)


async def test_typescript_with_a_node_that_strips_types(daemon: Daemon, places: Path) -> None:
    (places / "node").symlink_to(NODE)
    answer = await answer_of(daemon, "typescript", TYPES, places, argv=["a b"])
    assert answer == {"exitCode": 0, "result": "3 4 function [ 'a b' ]\n"}


async def test_typescript_with_the_node_of_the_wheel(daemon: Daemon, places: Path) -> None:
    answer = await answer_of(daemon, "typescript", TYPES + "console.log(process.execPath)", places, argv=["a b"])
    assert answer == {"exitCode": 0, "result": f"3 4 function [ 'a b' ]\n{NODE.resolve()}\n"}


@pytest.mark.parametrize("runner", ["tsx", "ts-node"])
async def test_typescript_with_an_installed_runner(
    daemon: Daemon, places: Path, typescript_sdk: Path, runner: str
) -> None:
    old_node(places)
    (places / runner).symlink_to(typescript_sdk / "node_modules/.bin" / runner)
    for program in ("env", "sh"):
        (places / program).symlink_to(shutil.which(program) or "")
    (daemon.work_dir / "node_modules/mine").mkdir(parents=True)
    (daemon.work_dir / "node_modules/mine/index.js").write_text("module.exports = 'mine'")
    more = "console.log(require('mine'), __filename)"
    answer = await answer_of(daemon, "typescript", TYPES + more, places, argv=["a b"])
    first, second = answer["result"].splitlines()
    assert first == "3 4 function [ 'a b' ]"
    assert second.startswith("mine /")
    assert not Path(second.partition(" ")[2]).parent.exists()


async def test_a_timeout_removes_the_script(daemon: Daemon, places: Path, typescript_sdk: Path) -> None:
    old_node(places)
    (places / "tsx").symlink_to(typescript_sdk / "node_modules/.bin/tsx")
    for program in ("env", "sh"):
        (places / program).symlink_to(shutil.which(program) or "")
    code = (
        "require('fs').writeFileSync('pid', `${process.pid}\\n`); console.log(__dirname); setInterval(() => {}, 1000)"
    )
    answer = await answer_of(daemon, "typescript", code, places, timeout=5)
    assert answer["status"] == 408
    assert not Path(answer["result"].strip()).exists()
    assert await gone(await pid_in(daemon.work_dir / "pid"))


async def test_nothing_installed(daemon: Daemon, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolbox.process.node._wheel", lambda: None)
    answer = await answer_of(daemon, "javascript", "1", places)
    assert answer["exitCode"] == 127
    assert "install nodejs" in answer["result"]
    answer = await answer_of(daemon, "typescript", "1", places)
    assert answer["exitCode"] == 127
    assert "npm install --global tsx" in answer["result"]
    old_node(places)
    answer = await answer_of(daemon, "typescript", "1", places)
    assert answer["exitCode"] == 127
    assert "22.18" in answer["result"]


async def test_the_nodes_of_the_machine(daemon: Daemon) -> None:
    node = shutil.which("node", path=os.defpath)
    if node is None or Path(node).parent == Path(sys.executable).parent:
        pytest.skip("not possible here: no node is installed")
    for language in LANGUAGES:
        answer = await answer_of(daemon, language, "console.log(1 + 1)", Path(node).parent)
        assert answer == {"exitCode": 0, "result": "2\n"}
