"""The charts of programs: how they travel from matplotlib in the program to the answer."""

import asyncio
import base64
import io
import json
import logging
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Daemon, run_daemon
from tests.process.test_execute import gone, pid_in
from toolbox.config import ServeConfig

DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4], label='a')\nplt.title('T')\n"


@pytest.fixture
async def daemon(serve_config: Callable[..., ServeConfig]) -> AsyncIterator[Daemon]:
    """Run a daemon whose programs have the libraries of the tests."""
    async with run_daemon(serve_config(kernel_python=sys.executable)) as running_daemon:
        yield running_daemon


async def answer_of(daemon: Daemon, code: str, status: int = 200, **fields: object) -> dict[str, Any]:
    body = io.BytesIO(json.dumps({"code": code, "language": "python", **fields}).encode())
    async with daemon.http.post("/process/code-run", data=body) as response:
        assert response.status == status, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


def titles(answer: dict[str, Any]) -> list[str]:
    return [chart["title"] for chart in answer.get("artifacts", {"charts": []})["charts"]]


async def test_a_chart(daemon: Daemon) -> None:
    answer = await answer_of(daemon, "print('before', end='')\n" + DRAW + "plt.show()\nprint('after')")
    assert answer["exitCode"] == 0
    assert answer["result"] == "beforeafter\n"
    (chart,) = answer["artifacts"]["charts"]
    assert (chart["type"], chart["title"]) == ("line", "T")
    assert chart["elements"] == [{"label": "a", "points": [[0, 1], [1, 2], [2, 4]]}]
    picture = base64.b64decode(chart["png"], validate=True)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert min(struct.unpack(">II", picture[16:24])) > 100


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [
        ("plt.show(); 1/0", 1),
        ("plt.show(); import sys; sys.exit(7)", 7),
        ("plt.show(); import os; os._exit(8)", 8),
        ("plt.show(); import os; os.kill(os.getpid(), 9)", 137),
        ("import sys; sys.exit(7)", 7),
        ("1/0", 1),
        ("", 0),
    ],
)
async def test_charts_survive_the_end_of_the_program(daemon: Daemon, end: str, exit_code: int) -> None:
    answer = await answer_of(daemon, DRAW + end)
    assert answer["exitCode"] == exit_code
    assert titles(answer) == ["T"]


async def test_charts_survive_a_timeout(daemon: Daemon) -> None:
    code = DRAW + "plt.show()\nprint('shown')\nimport time; time.sleep(1000)"
    answer = await answer_of(daemon, code, status=408, timeout=8)
    assert answer["result"] == "shown\n"
    assert titles(answer) == ["T"]


async def test_several_figures_come_once_and_in_order(daemon: Daemon) -> None:
    code = (
        "import matplotlib.pyplot as plt\n"
        "for n in range(3):\n    plt.figure()\n    plt.bar(['x', 'y'], [n, 2])\n    plt.title(str(n))\n"
        "plt.show()\nplt.pie([1, 2])\nplt.title('3')\nplt.show()\nplt.plot([1])\nplt.title('4')\n"
    )
    assert titles(await answer_of(daemon, code)) == ["0", "1", "2", "3", "4"]


async def test_a_fork_reports_nothing(daemon: Daemon) -> None:
    code = DRAW + "import os, sys\nif os.fork() == 0:\n    plt.show()\n    sys.exit()\nos.wait()\nplt.show()"
    assert titles(await answer_of(daemon, code)) == ["T"]


async def test_a_process_left_behind_does_not_delay_the_answer(daemon: Daemon) -> None:
    code = DRAW + (
        "import os, time\nplt.show()\nif os.fork() == 0:\n    open('pid', 'w').write(f'{os.getpid()}\\n')\n"
        "    time.sleep(1000)\nwhile not os.path.exists('pid'): time.sleep(0.01)\n"
    )
    answer = await asyncio.wait_for(answer_of(daemon, code), 30)
    assert titles(answer) == ["T"]
    pid = await pid_in(daemon.work_dir / "pid")
    os.kill(pid, 9)
    assert await gone(pid)


async def test_children_of_the_program_cannot_write_charts(daemon: Daemon) -> None:
    code = (
        "import os, subprocess\n"
        "name = lambda fd: os.readlink(f'/proc/self/fd/{fd}')\n"
        "print([fd for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}') "
        "and 'memfd:charts' in name(fd)] != [])\n"
        "print(subprocess.check_output(['ls', '-l', '/proc/self/fd'], close_fds=False, text=True))\n"
    )
    answer = await answer_of(daemon, code)
    assert answer["result"].startswith("True\n")
    assert "memfd" not in answer["result"]


async def test_output_cannot_be_taken_for_a_chart(daemon: Daemon) -> None:
    line = 'dtn_artifact_k39fd2:{"type":"chart","value":{"type":"line","elements":[],"title":"X"}}\n'
    answer = await answer_of(daemon, f"print({line!r}, end='')")
    assert answer == {"exitCode": 0, "result": line}


async def test_a_program_that_closes_descriptors_keeps_its_own_files_whole(daemon: Daemon) -> None:
    code = (
        "import os\nos.closerange(3, 1024)\nfiles = [open(f'file{n}', 'w+b', 0) for n in range(60)]\n"
        + DRAW
        + "plt.show()\nprint(sum(os.fstat(file.fileno()).st_size for file in files))"
    )
    assert await answer_of(daemon, code) == {"exitCode": 0, "result": "0\n"}


FORGE = """
import os
for fd in map(int, os.listdir('/proc/self/fd')):
    try:
        if 'memfd:charts' in os.readlink(f'/proc/self/fd/{fd}'):
            break
    except OSError:
        pass
frame = %s
os.write(fd, frame)
"""
"""Finds the descriptor of the charts, and writes something of its own to it."""


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"type": 5, "elements": []}',
        b'{"type": "line", "elements": [], "x_ticks": [null]}',
        b'{"type": "line", "elements": [NaN]}',
        b"\xff",
        b"",
    ],
)
async def test_what_is_no_chart_is_dropped(daemon: Daemon, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    frame = len(content).to_bytes(8) + content
    answer = await answer_of(daemon, FORGE % repr(frame) + DRAW + "plt.show()")
    assert answer["exitCode"] == 0
    assert titles(answer) == ["T"]
    assert "not a chart" in caplog.text


@pytest.mark.parametrize("frame", [b"x" * 100, (1 << 63).to_bytes(8), b"123"])
async def test_a_torn_channel(daemon: Daemon, frame: bytes) -> None:
    assert await answer_of(daemon, FORGE % repr(frame) + "print('ok')") == {"exitCode": 0, "result": "ok\n"}


async def test_more_charts_than_are_kept(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolbox.process.code_run.CHARTS_LIMIT", 60_000)
    draw = "    plt.plot([1, n])\n    plt.title(str(n))\n    plt.show()\n"
    code = "import matplotlib.pyplot as plt\nfor n in range(9):\n" + draw
    answer = await answer_of(daemon, code)
    assert answer["exitCode"] == 0
    found = titles(answer)
    assert 0 < len(found) < 9
    assert found == [str(n) for n in range(len(found))]
    assert len(json.dumps(answer)) < 70_000


async def test_a_broken_hook_is_logged_and_harmless(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hook = tmp_path / "hook.py"
    hook.write_text("raise ZeroDivisionError('in the hook')")
    monkeypatch.setattr("charts.HOOK", hook)
    with caplog.at_level(logging.WARNING):
        answer = await answer_of(daemon, DRAW + "print('fine')")
    assert answer == {"exitCode": 0, "result": "fine\n"}
    assert "in the hook" in caplog.text


async def test_matplotlib_absent(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True
    )
    async with run_daemon(serve_config(kernel_python=str(environment / "bin/python3"))) as daemon:
        answer = await answer_of(daemon, "import matplotlib")
    assert answer == {
        "exitCode": 1,
        "result": 'Traceback (most recent call last):\n  File "<stdin>", line 1, in <module>\n    import matplotlib\n'
        "ModuleNotFoundError: No module named 'matplotlib'\n",
    }


async def test_a_package_of_the_user_called_matplotlib(daemon: Daemon) -> None:
    (daemon.work_dir / "matplotlib.py").write_text("mine = 42\n")
    answer = await answer_of(daemon, "import matplotlib\nprint(matplotlib.mine)")
    assert answer == {"exitCode": 0, "result": "42\n"}


async def test_the_users_backend_is_kept(daemon: Daemon) -> None:
    code = "import matplotlib\nprint(matplotlib.get_backend().lower())"
    assert (await answer_of(daemon, code))["result"] == "agg\n"
    assert (await answer_of(daemon, code, envs={"MPLBACKEND": "svg"}))["result"] == "svg\n"
