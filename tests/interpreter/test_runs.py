"""What runs of code say, in the default context and in others."""

import asyncio
from pathlib import Path

import pytest

from tests.conftest import Daemon
from tests.interpreter.client import CONTEXT, EXECUTE, create, run
from toolbox.children import tree

WAIT = "import os, time\nwhile not os.path.exists('go'): time.sleep(.01)"


async def test_the_messages_of_the_contract(daemon: Daemon) -> None:
    ran = await run(daemon, "print('hi')")
    assert ran.messages == [
        {"type": "stdout", "text": "hi\n", "name": "", "value": "", "traceback": ""},
        {"type": "control", "text": "completed", "name": "", "value": "", "traceback": ""},
    ]
    assert (ran.code, ran.reason) == (1000, "")


async def test_variables_stay(daemon: Daemon) -> None:
    await run(daemon, "x = 20")
    ran = await run(daemon, "x + 22", "default")
    assert ran.value() == "42"
    other = await create(daemon)
    assert (await run(daemon, "x", other)).error["name"] == "NameError"


async def test_output_keeps_its_order_whoever_prints(daemon: Daemon) -> None:
    code = """
import os, subprocess, sys, threading
print('one')
os.system('echo two')
print('three')
print('four', file=sys.stderr)
os.write(1, b'five\\n')
sys.stdout.buffer.write(b'six\\n')
subprocess.run('echo seven; exit 1', shell=True)
!echo eight
thread = threading.Thread(target=print, args=('nine',)); thread.start(); thread.join()
print('ten', file=sys.__stdout__, flush=True)
pid = os.fork()
if pid == 0:
    print('eleven'); os._exit(0)
os.waitpid(pid, 0)
print('twelve', end='')
"""
    ran = await run(daemon, code)
    assert ran.printed == [
        ("stdout", "one\ntwo\nthree\n"),
        ("stderr", "four\n"),
        ("stdout", "five\nsix\nseven\neight\nnine\nten\neleven\ntwelve"),
    ]


async def test_text_is_told_before_the_run_ends(daemon: Daemon) -> None:
    async with daemon.http.ws_connect(EXECUTE) as socket:
        code = f"print('first')\nprint('prompt> ', end='')\n{WAIT}"
        await socket.send_json({"code": code})
        seen = ""
        while seen != "first\nprompt> ":
            seen += (await socket.receive_json())["text"]
        (daemon.work_dir / "go").touch()
        assert (await socket.receive_json())["text"] == "completed"


@pytest.mark.parametrize(
    ("code", "name", "value", "last"),
    [
        ("def f():\n    raise ValueError('boom')\nf()", "ValueError", "boom", "ValueError: boom\n"),
        ("x ==", "SyntaxError", "invalid syntax (<stdin>, line 1)", "SyntaxError: invalid syntax\n"),
        ("  x = 1\n y = 2", "IndentationError", "unexpected indent (<stdin>, line 1)", "unexpected indent\n"),
        ("x = '\0'", "SyntaxError", "source code string cannot contain null bytes", "null bytes\n"),
        ("%nonsense", "UsageError", "Line magic function `%nonsense` not found.", "not found.\n"),
        ("def f(): f()\nf()", "RecursionError", "maximum recursion depth exceeded", "exceeded\n"),
        ("await nothing()", "NameError", "name 'nothing' is not defined", "is not defined\n"),
    ],
)
async def test_errors(daemon: Daemon, code: str, name: str, value: str, last: str) -> None:
    ran = await run(daemon, code)
    assert (ran.error["name"], ran.error["value"]) == (name, value)
    assert ran.error["traceback"].endswith(last)
    assert ran.controls == ["completed"]
    assert ran.code == 1000
    assert ran.messages[0]["type"] == "error"
    assert ran.text() == ran.text("stderr") == ""


async def test_a_traceback_shows_the_code_of_all_runs_and_none_of_ours(daemon: Daemon) -> None:
    await run(daemon, "def f():\n    1 / 0")
    error = (await run(daemon, "try:\n    f()\nexcept Exception as e:\n    raise OSError('no') from e")).error
    assert error["traceback"] == (
        "Traceback (most recent call last):\n"
        '  File "<stdin>", line 2, in <module>\n    f()\n'
        '  File "<run 1>", line 2, in f\n    1 / 0\n    ~~^~~\n'
        "ZeroDivisionError: division by zero\n"
        "\nThe above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n"
        "  File \"<stdin>\", line 4, in <module>\n    raise OSError('no') from e\n"
        "OSError: no\n"
    )


async def test_exit_says_nothing_and_keeps_the_variables(daemon: Daemon) -> None:
    for leave in ("import sys; x = 1; sys.exit(3)", "exit()", "quit()", "raise SystemExit('text')"):
        ran = await run(daemon, leave)
        assert (ran.messages, ran.code) == ([ran.messages[-1]], 1000), leave
        assert ran.controls == ["completed"]
    assert (await run(daemon, "x")).value() == "1"


async def test_input_fails_at_once(daemon: Daemon) -> None:
    ran = await run(daemon, "input('name? ')")
    assert ran.error["name"] == "StdinNotImplementedError"
    assert (await run(daemon, "import sys; sys.stdin.read()")).value() == "''"


async def test_code_of_a_notebook(daemon: Daemon) -> None:
    code = """
import asyncio
async def f(): return 7
print(await f())
%cd -q /
%env GREETING=hello
files = !echo $GREETING
files[0]
"""
    ran = await run(daemon, code)
    assert ran.text() == "7\nenv: GREETING=hello\n"
    assert ran.value() == "'hello'"
    assert (await run(daemon, "%%bash\npwd")).text() == "/\n"


async def test_variables_of_one_run(daemon: Daemon) -> None:
    code = "import os; print(os.environ.get('FOO'), os.environ.get('HOME') == '/x')"
    assert (await run(daemon, code, envs={"FOO": "bar", "HOME": "/x"})).text() == "bar True\n"
    assert (await run(daemon, code)).text() == "None False\n"
    assert (await run(daemon, "raise KeyError", envs={"FOO": "baz"})).error["name"] == "KeyError"
    assert (await run(daemon, code)).text() == "None False\n"


async def test_a_context_has_its_directory_and_the_variables_of_its_time(daemon: Daemon) -> None:
    await run(daemon, "1")  # so that the next ones get spare kernels
    (daemon.work_dir / "sub").mkdir()
    async with daemon.http.post("/env", json={"set": {"LATE": "yes"}}) as response:
        assert response.status == 200
    for _ in range(3):
        context = await create(daemon, cwd="sub")
        ran = await run(
            daemon, "import os; print(os.getcwd(), os.environ['LATE'], os.environ['PWD'], __name__)", context
        )
        sub = daemon.work_dir / "sub"
        assert ran.text() == f"{sub} yes {sub} __main__\n"


async def test_a_spare_kernel_becomes_the_context_s_own(daemon: Daemon) -> None:
    await run(daemon, "1")
    variables = f"import os; sorted({{**os.environ}} | {{'PWD': ''}}), os.environ.get('{tree.MARKER}', '') != ''"
    fresh = (await run(daemon, variables)).value()
    started_in = "next(each[4:] for each in open('/proc/self/environ').read().split('\\0') if each[:4] == 'PWD=')"
    while True:
        (daemon.work_dir / "sub").mkdir()
        context = await create(daemon, cwd="sub")
        (daemon.work_dir / "sub").rmdir()
        ran = await run(daemon, started_in, context)
        if [each["name"] for each in ran.of("error")] == ["ContextError"]:
            break
        async with daemon.http.delete(f"{CONTEXT}/{context}"):  # there was no spare kernel yet
            pass
    assert (await run(daemon, "1", context)).error["name"] == "ContextError"
    (daemon.work_dir / "sub").mkdir()
    assert (await run(daemon, started_in, context)).value() == repr(str(daemon.work_dir))
    assert (await run(daemon, "import os; os.getcwd()", context)).value() == repr(str(daemon.work_dir / "sub"))
    assert (await run(daemon, variables, context)).value() == fresh


async def test_modules_of_the_directory_are_found_and_ours_are_not(daemon: Daemon) -> None:
    for name in ("charts", "channel", "errors", "output", "json"):
        (daemon.work_dir / f"{name}.py").write_text("mine = True\n")
    ran = await run(
        daemon, "import charts, channel, errors, output\n[m.mine for m in (charts, channel, errors, output)]"
    )
    assert ran.value() == "[True, True, True, True]"


async def test_runs_wait_for_their_turn_and_contexts_do_not_wait_for_each_other(daemon: Daemon) -> None:
    other = await create(daemon)
    code = f"open('running', 'w').close()\n{WAIT}\nprint('a')"
    first = asyncio.ensure_future(run(daemon, code))
    while not (daemon.work_dir / "running").exists():
        await asyncio.sleep(0.01)
    waiting = [asyncio.ensure_future(run(daemon, f"n = {n}; print(globals().get('last')); last = n")) for n in range(3)]
    assert (await run(daemon, "print('b')", other)).text() == "b\n"
    assert not any(task.done() for task in (first, *waiting))
    (daemon.work_dir / "go").touch()
    assert (await first).text() == "a\n"
    assert sorted([(await task).text() for task in waiting]) == ["0\n", "1\n", "None\n"]


async def test_what_threads_print_between_runs_comes_with_the_next(daemon: Daemon) -> None:
    code = """
import threading, os, time
def late():
    while not os.path.exists('go'): time.sleep(.01)
    print('late')
    open('done', 'w').close()
threading.Thread(target=late).start()
"""
    assert (await run(daemon, code)).text() == ""
    (daemon.work_dir / "go").touch()
    while not (daemon.work_dir / "done").exists():
        await asyncio.sleep(0.01)
    assert (await run(daemon, "print('next')")).text() == "late\nnext\n"


async def test_the_routes_of_contexts(daemon: Daemon) -> None:
    async with daemon.http.get(CONTEXT) as response:
        assert await response.json() == {"contexts": []}
    async with daemon.http.post(CONTEXT, json={}) as response:
        context = await response.json()
        assert response.status == 200
    assert context.keys() == {"id", "cwd", "createdAt", "active", "language"}
    assert (context["cwd"], context["active"], context["language"]) == (str(daemon.work_dir), True, "python")
    async with daemon.http.get(CONTEXT) as response:
        assert await response.json() == {"contexts": [context]}
    async with daemon.http.delete(f"{CONTEXT}/{context['id']}") as response:
        assert (response.status, await response.json()) == (200, {"message": "Context deleted successfully"})
    for path, status in ((context["id"], 404), ("default", 400), ("nope", 404)):
        async with daemon.http.delete(f"{CONTEXT}/{path}") as response:
            assert response.status == status
            assert (await response.json())["source"] == "DAYTONA_DAEMON"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"cwd": "/nope"}', 400),
        ('{"cwd": "/etc/passwd"}', 400),
        ('{"cwd": "a\\u0000b"}', 400),
        ('{"language": "cobol"}', 400),
        ("{", 400),
        ("", 400),
        ('{"cwd": 1}', 400),
    ],
)
async def test_bad_contexts(daemon: Daemon, body: str, status: int) -> None:
    async with daemon.http.post(CONTEXT, data=body) as response:
        assert response.status == status
        assert (await response.json())["statusCode"] == status


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("{", 1002, "invalid JSON payload"),
        ('{"code": "1", "timeout": 1.5}', 1002, "invalid JSON payload"),
        ('{"code": 1}', 1002, "invalid JSON payload"),
        ('{"code": ""}', 1008, "code is required"),
        ('{"code": " \\n"}', 1008, "code is required"),
        ('{"code": "1", "timeout": -1}', 1008, "timeout must be greater than or equal to 0"),
        ('{"code": "1", "contextId": "nope"}', 1008, "context not found: nope"),
        ('{"code": "1", "envs": {"1A": "x"}}', 1008, "invalid environment variable name: '1A'"),
    ],
)
async def test_bad_requests(daemon: Daemon, message: str, code: int, reason: str) -> None:
    async with daemon.http.ws_connect(EXECUTE) as socket:
        await socket.send_bytes(message.encode())
        closed = await socket.receive()
        assert (closed.data, closed.extra) == (code, reason)


async def test_an_upgrade_is_needed(daemon: Daemon) -> None:
    async with daemon.http.get(EXECUTE) as response:
        assert response.status == 400


async def test_a_kernel_needs_no_home_and_leaves_nothing_behind(daemon: Daemon, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    async with daemon.http.post("/env", json={"set": {"HOME": "/nowhere", "TMPDIR": str(temporary)}}) as response:
        assert response.status == 200
    assert (
        await run(daemon, "import os; os.environ['HOME'], 'IPYTHONDIR' in os.environ")
    ).value() == "('/nowhere', False)"
    assert list(temporary.iterdir()) == []


async def test_a_path_that_python_keeps_safe_stays_whole(daemon: Daemon) -> None:
    async with daemon.http.post("/env", json={"set": {"PYTHONSAFEPATH": "1", "PYTHONPATH": "/first"}}) as response:
        assert response.status == 200
    assert (await run(daemon, "import sys; sys.path[0], '' in sys.path")).value() == "('/first', False)"


async def test_what_is_printed_is_not_kept_in_the_kernel(daemon: Daemon) -> None:
    await run(daemon, "class Text(str): pass\nimport gc, sys")
    assert (await run(daemon, "sys.stdout.write(Text('a')); sys.stderr.write(Text('b')); None")).text() == "a"
    assert (await run(daemon, "[each for each in gc.get_objects() if type(each) is Text]")).value() == "[]"


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit('why')", 1, "why\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("pass", 0, ""),
    ],
)
async def test_a_fork_ends_where_the_program_does(daemon: Daemon, end: str, code: int, told: str) -> None:
    fork = f"""
import os, sys
child = os.fork()
if child == 0:
    print('child')
    {end}
else:
    print('parent', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ran = await run(daemon, fork)
    assert ran.text() == f"child\nparent {code}\n"
    assert ran.text("stderr").endswith(told)
    assert ran.of("error") == []
    assert (await run(daemon, "child > 0")).value() == "True"


async def test_of_much_that_threads_print_between_runs_the_last_is_kept(daemon: Daemon) -> None:
    code = """
import os, threading, time
def late():
    while not os.path.exists('go'): time.sleep(.01)
    for n in range(20_000): print(n, flush=True)
    open('done', 'w').close()
threading.Thread(target=late).start()
"""
    await run(daemon, code)
    (daemon.work_dir / "go").touch()
    while not (daemon.work_dir / "done").exists():
        await asyncio.sleep(0.01)
    text = (await run(daemon, "print('next')")).text()
    assert "".join(f"{n}\n" for n in range(20_000)).endswith(text.removesuffix("next\n"))
    assert 32 * 1024 < len(text) < 128 * 1024


@pytest.mark.parametrize(
    ("code", "repair", "name"),
    [
        ("import sys\nsys.stdout = open('x', 'w')\nsys.stdout.close()", "sys.stdout = sys.__stdout__", "ValueError"),
        ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", "x = 1", "E"),
        ("raise type('A' * 10_000_000, (Exception,), {})", "x = 1", ""),
    ],
)
async def test_what_makes_ipython_itself_fail_is_told_once(daemon: Daemon, code: str, repair: str, name: str) -> None:
    ran = await run(daemon, code)
    assert ran.error["name"].startswith(name)
    assert ran.controls == ["completed"]
    assert (await run(daemon, repair)).code == 1000


async def test_a_signal_handler_that_prints_in_the_midst_of_a_print(daemon: Daemon) -> None:
    code = """
import itertools, signal, sys
numbers = itertools.count()
def handler(*_): sys.stderr.write(f"{next(numbers)} {'y' * 5000}\\n")
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, .0005, .0005)
for n in range(3000): print(n, 'x' * 5000)
signal.setitimer(signal.ITIMER_REAL, 0)
next(numbers)
"""
    ran = await run(daemon, code)
    assert ran.text() == "".join(f"{n} {'x' * 5000}\n" for n in range(3000))
    told = ran.text("stderr").splitlines()  # a handler may be interrupted by the next one
    assert sorted(told) == sorted(f"{n} {'y' * 5000}" for n in range(int(ran.value())))
