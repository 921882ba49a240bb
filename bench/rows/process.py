"""Requests, commands, programs."""

import statistics
import subprocess
import threading
import time
from typing import Any

from bench.client import Client
from bench.target import Figures, Target, median_ms, peak_growth_mb


def version(target: Target) -> Figures:
    """GET /version."""
    client = target.client()
    return {"version_ms": median_ms(lambda: client.call("GET", "/version"), 1000)}


def execute(target: Target) -> Figures:
    """One `echo hi` after another."""
    client = target.client()
    return {"execute_ms": median_ms(lambda: client.execute("echo hi"), 200)}


def execute_rate(target: Target) -> Figures:
    """`echo hi` from 16 clients at once, per second."""
    each = 50

    def work() -> None:
        client = target.client()
        for _ in range(each):
            client.execute("echo hi")

    threads = [threading.Thread(target=work) for _ in range(16)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"execute_per_s": 16 * each / (time.perf_counter() - started)}


def execute_large(target: Target) -> Figures:
    """A command that prints 50 MB."""
    client = target.client()
    command = "head -c 50000000 /dev/zero | tr '\\0' x"
    client.execute(command)
    with peak_growth_mb(target) as growth:
        figures = {"execute_50mb_s": median_ms(lambda: client.execute(command), 3) / 1000}
    return figures | growth.figures("execute_50mb_growth_mb")


def run_python(client: Client, code: str) -> Any:
    """Run a Python program."""
    return client.json("POST", "/process/code-run", {"code": code, "language": "python"})


def run_program(target: Target) -> Figures:
    """A Python program that prints, and, in turn, the bare interpreter it runs in."""
    client = target.client()
    code = "print('hi')"
    python = run_python(client, "import sys; print(sys.executable)")["result"].strip()
    command = [python, "-u", "-c", code]
    bare, ours = [], []
    for _ in range(5):
        bare.append(median_ms(lambda: subprocess.run(command, stdout=subprocess.PIPE, check=True), 20))
        ours.append(median_ms(lambda: run_python(client, code), 20))
    bare_ms, ours_ms = statistics.median(bare), statistics.median(ours)
    return {"bare_python_ms": bare_ms, "code_run_ms": ours_ms, "code_run_beyond_python_ms": ours_ms - bare_ms}


def run_chart(target: Target) -> Figures:
    """A Python program that shows one chart, and one that saves the same figure to memory."""
    client = target.client()
    draw = "import io, matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\nplt.plot([1, 2, 4])\n"
    show, save = draw + "plt.show()", draw + "plt.savefig(io.BytesIO(), bbox_inches='tight')\nplt.close()"
    if not run_python(client, show).get("artifacts"):
        return {}  # no matplotlib there
    chart = median_ms(lambda: run_python(client, show), 7)
    return {"code_run_chart_ms": chart, "code_run_savefig_ms": median_ms(lambda: run_python(client, save), 7)}
