"""`POST /process/code-run` of Python programs, against a real interpreter."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Daemon, run_daemon
from tests.process.test_execute import gone, pid_in
from toolbox.config import ServeConfig

Run = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def daemon(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon whose programs have the libraries of the tests."""
    async with run_daemon(serve_config(kernel_python=sys.executable)) as running_daemon:
        yield running_daemon


@pytest.fixture
def run(daemon: Daemon) -> Run:
    """Return a function that runs a program and returns the answer; the status must be 200."""

    async def run(code: str, language: str = "python", **fields: object) -> dict[str, Any]:
        body = io.BytesIO(json.dumps({"code": code, "language": language, **fields}).encode())
        async with daemon.http.post("/process/code-run", data=body) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer

    return run


# How a program runs


@pytest.mark.parametrize(
    ("code", "exit_code", "output"),
    [
        ("print(1 + 1)", 0, "2\n"),
        ("  ", 0, ""),
        ("print('hé€😀')", 0, "hé€😀\n"),
        ("print('a', end='')", 0, "a"),
        ("import sys\nprint('o'); print('e', file=sys.stderr); print('o')", 0, "o\ne\no\n"),
        ("print(__name__, __doc__)", 0, "__main__ None\n"),
        ("'docs'\nfrom __future__ import annotations\nx: nope = 1\nprint(__doc__, x)", 0, "docs 1\n"),
        ("print(sorted(globals()))", 0, None),
        ("import sys\nprint('x'); sys.exit(5)", 5, "x\n"),
        ("import sys\nsys.exit('why')", 1, "why\n"),
        ("raise SystemExit", 0, ""),
        ("import os\nprint('x'); os._exit(3)", 3, "x\n"),
        ("raise KeyboardInterrupt", 130, None),
        ("def f(): f()\nf()", 1, None),
        ("import sys\nprint(repr(sys.stdin.read()))", 0, "''\n"),
        ("import os\nprint(os.getcwd() == os.environ['WHERE'])", 0, "True\n"),
        ("print('\\x00' in 'a\\0b')", 0, "True\n"),
        ("# -*- coding: latin-1 -*-\nprint('é')", 0, "é\n"),
        ("print(1)\r\nprint(2)\r\n", 0, "1\n2\n"),
        ("import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)", 0, "True\n"),
        ("import threading\nthreading.Timer(0.05, print, ['late']).start()", 0, "late\n"),
        ("import atexit\natexit.register(print, 'bye')\n1/0", 1, None),
        ("import asyncio\nasync def f(): print('in')\nasyncio.run(f())", 0, "in\n"),
        (
            "import multiprocessing as m\ndef f(x): return x * 2\nprint(m.get_context('fork').Pool(2).map(f, [1, 2]))",
            0,
            "[2, 4]\n",
        ),
    ],
)
async def test_a_program(daemon: Daemon, run: Run, code: str, exit_code: int, output: str | None) -> None:
    answer = await run(code, envs={"WHERE": str(daemon.work_dir)})
    if output is not None:
        assert answer == {"exitCode": exit_code, "result": output}
    assert answer["exitCode"] == exit_code


PROGRAMS = {
    "function": "def f():\n    raise ValueError('boom')\n\nf()\n",
    "no newline at the end": "def f(): 1/0\nf()",
    "chained": "try:\n    {}['a']\nexcept KeyError as error:\n    raise RuntimeError('b') from error\n",
    "in a library": "import json\njson.loads('{')\n",
    "caught": "import traceback\ntry:\n    [][0]\nexcept IndexError:\n    traceback.print_exc()\n",
    "logged": "import logging\ntry:\n    [][0]\nexcept IndexError:\n    logging.exception('x')\n",
    "after traceback was imported": "import traceback\n\n\n1/0\n",
    "syntax": "x = 1\nif x\n    pass\n",
    "indentation": "def f():\nx\n",
    "evaluated": "eval('1/0')\n",
    "group": "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])\n",
    "notes": "e = ValueError(1)\ne.add_note('n')\nraise e\n",
    "bad str": "class E(Exception):\n    def __str__(self): 1/0\nraise E\n",
    "excepthook": "import sys\nsys.excepthook = lambda kind, _, trace: print(kind, trace.tb_next)\n1/0\n",
    "bad excepthook": "import sys\ndef hook(*a): raise KeyError(3)\nsys.excepthook = hook\n1/0\n",
    "excepthook exits": "import sys\ndef hook(*a): sys.exit(9)\nsys.excepthook = hook\n1/0\n",
    "no stderr": "import sys\nsys.stderr = None\n1/0\n",
    "warning": "import warnings\nwarnings.warn('w')\n",
    "tracebacklimit": "import sys\nsys.tracebacklimit = 0\n1/0\n",
}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_errors_look_as_those_of_a_program_in_a_file(run: Run, tmp_path: Path, name: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAMS[name])
    command = [sys.executable, "-u", str(program)]
    plain = await asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    answer = await run(PROGRAMS[name])
    assert answer["exitCode"] == plain.returncode
    assert answer["result"] == plain.stdout.decode().replace(str(program), "<stdin>")


async def test_recursion_to_death_shows_where(run: Run) -> None:
    answer = await run("def f(): f()\nf()")
    assert answer["exitCode"] == 1
    assert answer["result"].startswith('Traceback (most recent call last):\n  File "<stdin>", line 2, in <module>\n')
    assert answer["result"].endswith("RecursionError: maximum recursion depth exceeded\n")


async def test_a_crash_of_the_interpreter(run: Run) -> None:
    answer = await run("import ctypes\nprint('before')\nctypes.string_at(0)")
    assert answer == {"exitCode": 139, "cause": "SIGSEGV", "result": "before\n"}


async def test_a_killed_program(run: Run) -> None:
    answer = await run("import os\nprint('before')\nos.kill(os.getpid(), 9)")
    assert answer == {"exitCode": 137, "cause": "SIGKILL", "result": "before\n"}


async def test_a_null_byte_is_a_syntax_error(run: Run) -> None:
    answer = await run("print(1)\0")
    assert answer == {"exitCode": 1, "result": "SyntaxError: source code cannot contain null bytes\n"}


async def test_arguments_pass_exactly(run: Run) -> None:
    argv = ["a", "b c", "d'e", 'f"g', "$HOME", "*", "", "-x", "--", "é\n\\", "`id`"]
    answer = await run("import sys, json\nprint(json.dumps(sys.argv))", argv=argv)
    assert json.loads(answer["result"]) == ["-", *argv]


async def test_variables(run: Run) -> None:
    answer = await run("import os\nprint(os.environ['A'], os.environ.get('TOOLBOX_TOKEN'))", envs={"A": "1 2"})
    assert answer["result"] == "1 2 None\n"


async def test_the_program_is_not_in_the_arguments_nor_an_open_file(run: Run) -> None:
    look = "import os\nprint(open('/proc/self/cmdline').read())\n"
    look += "for fd in os.listdir('/proc/self/fd'):\n    try: print(os.readlink(f'/proc/self/fd/{fd}'))\n"
    answer = await run(look + "    except OSError: pass\nsecret = 's3cr3t'")
    assert "s3cr3t" not in answer["result"]
    assert "memfd:program" not in answer["result"]


async def test_a_source_of_5_mb(run: Run) -> None:
    answer = await run("x = '" + "a" * 5_000_000 + "'\nprint(len(x))")
    assert answer == {"exitCode": 0, "result": "5000000\n"}


@pytest.mark.parametrize("name", ["charts", "toolbox", "json", "traceback", "companion", "bootstrap", "linecache"])
async def test_modules_of_the_work_dir_win(daemon: Daemon, run: Run, name: str) -> None:
    (daemon.work_dir / f"{name}.py").write_text("mine = 42\n")
    answer = await run(f"import {name}\nprint({name}.mine, {name}.__file__)\n1/0")
    assert answer["exitCode"] == 1
    assert answer["result"].startswith(f"42 {daemon.work_dir}/{name}.py\n")
    assert answer["result"].endswith("ZeroDivisionError: division by zero\n")
    assert "toolbox/process" not in answer["result"]


async def test_the_users_sitecustomize_wins(daemon: Daemon, run: Run) -> None:
    (daemon.work_dir / "sitecustomize.py").write_text("import sys\nsys.mine = 1\n")
    answer = await run("import sys\nprint(sys.mine)", envs={"PYTHONPATH": str(daemon.work_dir)})
    assert answer == {"exitCode": 0, "result": "1\n"}


async def test_nothing_is_imported_that_a_bare_interpreter_does_not_import(run: Run) -> None:
    code = "import sys\nprint(*sorted(sys.modules))"
    bare = await asyncio.to_thread(subprocess.check_output, [sys.executable, "-c", code], text=True)
    answer = await run(code)
    assert set(answer["result"].split()) <= set(bare.split())


async def test_a_daemon_whose_files_the_user_cannot_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolbox.process.code_run._COMPANION", Path("/nowhere/companion.py"))
    answer = await run("import linecache, matplotlib\nprint('ok')\n1/0")
    assert answer["exitCode"] == 1
    assert answer["result"].startswith(
        'ok\nTraceback (most recent call last):\n  File "<stdin>", line 3, in <module>\n'
    )
    assert answer["result"].endswith("ZeroDivisionError: division by zero\n")


# How it ends


async def post(daemon: Daemon, **body: object) -> tuple[int, dict[str, Any]]:
    async with daemon.http.post("/process/code-run", json={"language": "python", **body}) as response:
        return response.status, await response.json()


async def test_a_timeout_kills_the_tree_and_keeps_what_was_printed(daemon: Daemon) -> None:
    code = (
        "import subprocess, time\nprint('partial', end='')\n"
        "subprocess.Popen(['setsid', 'sh', '-c', 'echo $$ > left; exec sleep 1000'])\ntime.sleep(1000)"
    )
    status, answer = await post(daemon, code=code, timeout=1)
    assert (status, answer["code"], answer["result"]) == (408, "PROCESS_EXECUTION_TIMEOUT", "partial")
    assert "artifacts" not in answer
    assert await gone(await pid_in(daemon.work_dir / "left"))


async def test_endless_output_is_bounded(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(output_limit_mb="1")) as daemon:
        status, answer = await post(daemon, code="print('first')\nwhile True: print('x' * 1000)", timeout=1)
    assert status == 408
    assert answer["result"].startswith("first\nxxx")
    assert len(answer["result"]) < 1_100_000


async def test_a_client_that_disconnects_ends_the_program(daemon: Daemon) -> None:
    code = "import os, time\nopen('pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(1000)"
    with pytest.raises(asyncio.TimeoutError):
        async with daemon.http.post(
            "/process/code-run",
            json={"code": code, "language": "python"},
            timeout=aiohttp.ClientTimeout(total=2),
        ):
            pass
    assert await gone(await pid_in(daemon.work_dir / "pid"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "INVALID_REQUEST_BODY"),
        (b'{"code": "", "language": "python"}', "INVALID_REQUEST_BODY"),
        (b'{"code": "x"}', "INVALID_REQUEST_BODY"),
        (b'{"code": "x", "language": ""}', "INVALID_REQUEST_BODY"),
        (b'{"code": "x", "language": "ruby"}', "BAD_REQUEST"),
        (b'{"code": "x", "language": "Python"}', "BAD_REQUEST"),
        (b'{"code": "x", "language": "python", "timeout": -1}', "INVALID_REQUEST_BODY"),
        (b'{"code": "x", "language": "python", "timeout": 0.5}', "INVALID_REQUEST_BODY"),
        (b'{"code": "x", "language": "python", "envs": {"1": "x"}}', "BAD_REQUEST"),
        (b'{"code": "x", "language": "python", "argv": "a"}', "INVALID_REQUEST_BODY"),
        (b'{"code": "x", "language": "python", "argv": ["a\\u0000"]}', "BAD_REQUEST"),
    ],
)
async def test_bad_requests(daemon: Daemon, body: bytes, code: str) -> None:
    async with daemon.http.post("/process/code-run", data=body) as response:
        assert response.status == 400
        answer = await response.json()
    assert (answer["code"], answer["path"]) == (code, "/process/code-run")


async def test_arguments_that_no_process_can_be_given(run: Run) -> None:
    answer = await run("print(1)", argv=["a" * 3_000_000])
    assert answer["exitCode"] == -1
    assert "Argument list too long" in answer["result"]


async def test_many_at_once(run: Run) -> None:
    answers = await asyncio.gather(*(run(f"print({n})\nraise SystemExit({n})") for n in range(40)))
    assert answers == [{"exitCode": n, "result": f"{n}\n"} for n in range(40)]


async def test_where_code_runs_is_the_pythons_of_the_request(
    serve_config: Callable[..., ServeConfig], tmp_path: Path
) -> None:
    own = tmp_path / "own/python3"
    own.parent.mkdir()
    own.symlink_to(sys.executable)
    async with run_daemon(serve_config()) as daemon:
        code = "import sys\nprint(sys.orig_argv[0])"
        _, answer = await post(daemon, code=code, envs={"PATH": f"{own.parent}{os.pathsep}{os.environ['PATH']}"})
        assert answer["result"] == f"{own}\n"
        _, answer = await post(daemon, code=code, envs={"PATH": "/nowhere"})
        assert answer["result"] == f"{sys.executable}\n"
