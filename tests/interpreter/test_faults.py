"""What goes wrong: endless runs, clients that leave, kernels that die, and what is left of it."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Daemon, Toolboxd, run_daemon
from tests.interpreter.client import CONTEXT, EXECUTE, Ran, create, read, run
from toolbox.children import tree
from toolbox.config import ServeConfig
from toolbox.interpreter import contexts, messaging, routes

STUBBORN = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except KeyboardInterrupt:\n        pass"


async def there(path: Path) -> None:
    """Wait for a file."""
    while not path.exists():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "while True: print('x' * 1000)",
        "import time; time.sleep(60)",
        "!sleep 60",
        "import asyncio; await asyncio.sleep(60)",
        "import asyncio\nawait asyncio.sleep(0)\nwhile True: pass",
        "import asyncio\nasync def f():\n    while True: pass\nawait asyncio.create_task(f())",
        "import threading; threading.Event().wait()",
        "import time\ntry:\n    time.sleep(60)\nfinally:\n    print('cleaned up')",
    ],
)
async def test_a_timeout_interrupts_and_keeps_the_variables(daemon: Daemon, code: str) -> None:
    await run(daemon, "x = 1")
    ran = await run(daemon, code, timeout=1)
    assert (ran.code, ran.reason) == (4008, "")
    assert ran.controls == []  # a published client would take it for success
    assert ran.of("error") == []
    assert ("cleaned up" in ran.text()) == ("cleaned" in code)
    assert (await run(daemon, "x")).value() == "1"


async def test_an_unkillable_run_costs_the_variables_and_says_so(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "INTERRUPT_SECONDS", 0.5)
    await run(daemon, "x = 1")
    ran = await run(daemon, STUBBORN, timeout=1)
    assert ran.code == 4008
    assert ran.reason == "the kernel had to be restarted, variables are lost"
    assert ran.controls == ["restarted"]
    after = await run(daemon, "x")
    assert after.error["name"] == "NameError"
    assert after.controls == ["completed"]


async def test_a_timeout_counts_from_the_start(daemon: Daemon) -> None:
    code = "import time; time.sleep(.7); print('done')"
    both = await asyncio.gather(*(run(daemon, code, timeout=1) for _ in range(2)))
    assert [(ran.text(), ran.code) for ran in both] == [("done\n", 1000)] * 2


async def test_an_interrupt_by_request(daemon: Daemon) -> None:
    running = asyncio.ensure_future(run(daemon, "x = 1\nopen('on', 'w').close()\nwhile True: pass"))
    await there(daemon.work_dir / "on")
    waiting = asyncio.ensure_future(run(daemon, "x + 1"))
    async with daemon.http.post(f"{CONTEXT}/default/interrupt") as response:
        assert await response.json() == {"interrupted": True}
    ran = await running
    assert (ran.controls, ran.code) == (["interrupted"], 4008)
    assert (await waiting).value() == "2"
    async with daemon.http.post(f"{CONTEXT}/default/interrupt") as response:
        assert await response.json() == {"interrupted": False}
    async with daemon.http.post(f"{CONTEXT}/nope/interrupt") as response:
        assert response.status == 404


async def test_an_interrupt_of_its_own(daemon: Daemon) -> None:
    ran = await run(daemon, "raise KeyboardInterrupt")
    assert (ran.controls, ran.code, ran.of("error")) == (["interrupted"], 4008, [])


async def test_a_client_that_leaves_interrupts_what_it_asked_for(daemon: Daemon) -> None:
    code = "x = 1\ntry:\n    open('on', 'w').close()\n    while True: pass\nfinally:\n    open('off', 'w').close()"
    async with daemon.http.ws_connect(EXECUTE) as socket:
        await socket.send_json({"code": code})
        await there(daemon.work_dir / "on")
        async with daemon.http.ws_connect(EXECUTE) as waiting:
            await waiting.send_json({"code": "open('never', 'w')"})
            while (await interpreter_runs(daemon)) < 2:
                await asyncio.sleep(0.01)
    await there(daemon.work_dir / "off")
    assert (await run(daemon, "x")).value() == "1"
    assert not (daemon.work_dir / "never").exists()


async def interpreter_runs(daemon: Daemon) -> int:
    """Return how many websockets are open: a run has one each."""
    async with daemon.http.get("/metrics") as response:
        line = next(line for line in (await response.text()).splitlines() if line.startswith("toolbox_websockets "))
        return int(float(line.split()[1]))


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os; os._exit(0)", "exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os; os.closerange(3, 100)", "SIG"),
        ("import sys; sys.setrecursionlimit(10**8)\nf = lambda *_: [*map(f, [1])]\nf()", "SIGSEGV"),
    ],
)
async def test_a_kernel_that_dies(daemon: Daemon, code: str, cause: str) -> None:
    await run(daemon, "x = 1")
    ran = await run(daemon, f"print('before')\n{code}")
    assert ran.text() == "before\n"
    assert ran.error["name"] == "KernelDied"
    assert cause in ran.error["value"]
    assert (ran.controls, ran.code) == (["completed"], 1000)
    if cause == "SIGSEGV":
        assert "Segmentation fault" in ran.error["traceback"]
    after = await run(daemon, "'x' in globals()")
    assert after.value() == "False"
    assert after.controls == ["completed"]


async def test_a_kernel_killed_while_idle(daemon: Daemon) -> None:
    pid = int((await run(daemon, "import os; os.getpid()")).value())
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.01)
    ran = await run(daemon, "os")
    assert ran.controls == ["restarted", "completed"]
    assert ran.of("control")[0]["value"] == "SIGKILL"
    assert ran.error["name"] == "NameError"


async def test_a_kernel_killed_at_its_start(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nmkdir {tmp_path}/once 2>/dev/null && kill -9 $$\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    async with run_daemon(serve_config(kernel_python=str(python), spare_kernels="0")) as daemon:
        ran = await run(daemon, "1")
        assert ran.error["name"] == "KernelError"
        assert "did not start: SIGKILL" in ran.error["value"]
        assert (await run(daemon, "1")).value() == "1"


async def test_a_kernel_that_cannot_start_says_why(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    async with run_daemon(serve_config(kernel_python=str(venv / "bin/python"))) as daemon:
        ran = await run(daemon, "1")
        assert ran.error["name"] == "KernelError"
        assert "No module named 'ipykernel'" in ran.error["value"]
        assert ran.code == 1000


async def test_a_directory_that_goes_away(daemon: Daemon) -> None:
    (daemon.work_dir / "gone").mkdir()
    context = await create(daemon, cwd="gone")
    await run(daemon, "x = 1", context)
    (daemon.work_dir / "gone").rmdir()
    assert (await run(daemon, "x", context)).value() == "1"
    assert (await run(daemon, "import os; os.getcwd()", context)).error["name"] == "FileNotFoundError"
    assert (await run(daemon, "os.chdir('/'); os.getcwd()", context)).value() == "'/'"


async def test_a_context_deleted_while_it_runs(daemon: Daemon) -> None:
    context = await create(daemon)
    running = asyncio.ensure_future(run(daemon, f"open('on', 'w').close()\n{STUBBORN}", context))
    await there(daemon.work_dir / "on")
    waiting = asyncio.ensure_future(run(daemon, "1", context))
    await asyncio.sleep(0.05)
    async with daemon.http.delete(f"{CONTEXT}/{context}") as response:
        assert response.status == 200
    for ran in (await running, await waiting):
        assert (ran.controls, ran.code) == (["interrupted"], 4008)
    assert (await run(daemon, "1", context)).code == 1008


async def test_a_context_deleted_while_its_kernel_starts(
    serve_config: Callable[..., ServeConfig], tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n> {tmp_path}/started\nexec sleep 600\n")
    python.chmod(0o755)
    async with run_daemon(serve_config(kernel_python=str(python), spare_kernels="0")) as daemon:
        context = await create(daemon)
        running = asyncio.ensure_future(run(daemon, "1", context))
        await there(tmp_path / "started")
        queued = False
        while not queued:
            async with daemon.http.post(f"{CONTEXT}/{context}/interrupt") as response:
                queued = (await response.json())["interrupted"]
        async with daemon.http.delete(f"{CONTEXT}/{context}") as response:
            assert response.status == 200
        ran = await running
        assert (ran.controls, ran.code, ran.of("error")) == (["interrupted"], 4008, [])


async def test_two_daemons_with_one_state_directory(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    async with run_daemon(serve_config(spare_kernels="0")) as daemon:
        context = await create(daemon)
        left = daemon.state_dir / "kernels/left"
        left.mkdir()
        async with run_daemon(serve_config(spare_kernels="0")) as other:
            assert other.state_dir == daemon.state_dir
            assert not left.exists()
            assert (await run(other, "1")).value() == "1"
        assert (await run(daemon, "1", context)).value() == "1"
        async with daemon.http.delete(f"{CONTEXT}/{context}") as response:
            assert response.status == 200
        assert list((daemon.state_dir / "kernels").iterdir()) == []


async def test_too_many_contexts(serve_config: Callable[..., ServeConfig]) -> None:
    async with run_daemon(serve_config(max_contexts="2", spare_kernels="0")) as daemon:
        ids = [await create(daemon) for _ in range(2)]
        async with daemon.http.post(CONTEXT, json={}) as response:
            assert response.status == 409
            assert "delete one" in (await response.json())["message"]
        async with daemon.http.delete(f"{CONTEXT}/{ids[0]}"):
            pass
        await create(daemon)


async def test_a_great_deal_of_output_is_all_there_and_in_order(daemon: Daemon) -> None:
    code = "for n in range(300_000): print(n, '.' * 90)\nimport sys\nprint('y' * 3_000_000, file=sys.stderr)"
    ran = await run(daemon, code)
    assert ran.text() == "".join(f"{n} {'.' * 90}\n" for n in range(300_000))
    assert ran.text("stderr") == "y" * 3_000_000 + "\n"
    assert max(len(message["text"]) for message in ran.messages) <= 32 * 1024


async def test_a_slow_reader_loses_nothing_and_holds_nobody_else(daemon: Daemon) -> None:
    other = await create(daemon)
    async with daemon.http.ws_connect(EXECUTE) as socket:
        await socket.send_json({"code": "for n in range(400_000): print(n, '.' * 90)"})
        await socket.receive()
        before = resident()
        for n in range(5):
            assert (await run(daemon, f"print({n})", other)).text() == f"{n}\n"
            await asyncio.sleep(0.2)
        assert resident() - before < 16 * 1024 * 1024  # of 40 MB
        ran = await read(socket, Ran())
    assert ran.code == 1000
    assert ran.text().endswith(f"399999 {'.' * 90}\n")
    assert len(ran.text().splitlines()) > 399_000


async def test_a_reader_that_has_stopped_counts_as_gone(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "STALL_SECONDS", 0.5)
    code = "try:\n    while True: print('x' * 10_000)\nfinally:\n    open('off', 'w').close()"
    async with daemon.http.ws_connect(EXECUTE) as socket:
        await socket.send_json({"code": code})
        await there(daemon.work_dir / "off")
        assert (await run(daemon, "1 + 1")).value() == "2"


def resident() -> int:
    """Return this process's memory in bytes: the daemon is in it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_large_code_and_values(daemon: Daemon) -> None:
    source = "x = '" + "a" * 5_000_000 + "'\nlen(x)"
    assert (await run(daemon, source)).value() == "5000000"
    value = (await run(daemon, "'é' * 20_000_000")).value()
    assert value.startswith("'éé")
    assert len(value) < 300_000
    assert value.endswith("characters cut ...]")
    error = (await run(daemon, "raise ValueError('z' * 50_000_000)")).error
    assert "characters cut" in error["value"]


async def test_many_contexts_at_once_stay_exact(daemon: Daemon) -> None:
    ids = [await create(daemon) for _ in range(8)]
    code = "total = 0\nfor n in range(2000):\n    total += n * {0}\n    print({0}, n)\ntotal"
    everything = await asyncio.gather(*(run(daemon, code.format(n), context) for n, context in enumerate(ids)))
    for n, ran in enumerate(everything):
        assert ran.text() == "".join(f"{n} {i}\n" for i in range(2000))
        assert ran.value() == str(n * 1999 * 1000)


async def test_nothing_is_left_when_the_daemon_stops(
    start_toolboxd: Callable[..., Awaitable[Toolboxd]], tmp_path: Path
) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0")
    pids = await start_runs(toolboxd, tmp_path)
    await toolboxd.end()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert list((tmp_path / "state/kernels").iterdir()) == []


async def test_nothing_is_left_of_a_kernel_whose_client_left_before_it_began(
    serve_config: Callable[..., ServeConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, made = threading.Event(), threading.Event(), threading.Event()

    class SlowPlace(messaging.Place):
        def __init__(self, *arguments: Any) -> None:
            begun.set()
            go.wait(30)
            super().__init__(*arguments)
            made.set()

    monkeypatch.setattr(messaging, "Place", SlowPlace)
    async with run_daemon(serve_config()) as daemon:
        creating = asyncio.create_task(create(daemon))
        assert await asyncio.to_thread(begun.wait, 30)
        creating.cancel()
        asyncio.get_running_loop().call_later(0.5, go.set)
    assert await asyncio.to_thread(made.wait, 30)
    assert list((daemon.state_dir / "kernels").iterdir()) == []


@pytest.mark.usefixtures("reap_orphans")
async def test_kernels_do_not_outlive_a_killed_daemon(
    start_toolboxd: Callable[..., Awaitable[Toolboxd]], tmp_path: Path
) -> None:
    toolboxd = await start_toolboxd("serve", "--port", "0")
    pids = await start_runs(toolboxd, tmp_path)
    toolboxd.process.kill()
    await toolboxd.process.wait()
    for pid in pids:
        while (stat := tree.read_stat(pid)) is not None and stat.state != "Z":
            await asyncio.sleep(0.01)
    for place in (tmp_path / "state/kernels").iterdir():
        await asyncio.to_thread(until_unlocked, place)  # the spare kernel, which is nobody's in `pids`, may take longer
    again = await start_toolboxd("serve", "--port", "0")
    await again.port()
    assert list((tmp_path / "state/kernels").iterdir()) == []


def until_unlocked(place: Path) -> None:
    """Wait until no process holds a kernel's directory any more."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


async def start_runs(toolboxd: Toolboxd, directory: Path) -> list[int]:
    """Start a run that has a child, and return the pids of the kernel and the child."""
    code = f"""
import os, subprocess
child = subprocess.Popen(['sleep', '600'])
open('{directory}/pids', 'w').write(f'{{os.getpid()}} {{child.pid}} end')
{STUBBORN}"""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{await toolboxd.port()}") as http:
        socket = await http.ws_connect(EXECUTE)
        await socket.send_str(json.dumps({"code": code}))
        while not (directory / "pids").exists() or not (directory / "pids").read_text().endswith("end"):
            await asyncio.sleep(0.01)
    return [int(word) for word in (directory / "pids").read_text().split()[:2]]
