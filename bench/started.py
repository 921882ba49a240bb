"""Daemons started to be measured."""

import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.client import Client
from bench.limits import resident_mb
from bench.target import Figures, Target, started_desktop

_SETTLE_SECONDS = 0.5
_PHASE_SECONDS = 5.0
_SHOTS_PER_SECOND = 30


@contextmanager
def daemon(directory: str, program: Sequence[str] = ("toolbox", "serve")) -> Iterator[tuple[Target, float]]:
    """Start a daemon; give it, and how long the first answer took in milliseconds."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *program, "--port", "0", "--work-dir", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A home of its own: programs of the desktop remember there what earlier ones left.
        env={
            **os.environ,
            "HOME": directory,
            # Programs run in this Python: it has matplotlib, and no shim before it.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TOOLBOX_STATE_DIR": f"{directory}/.state",
            "TOOLBOX_RESOLUTION": "1920x1080",
        },
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(b" ", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/version")
        connection.getresponse().read()
        took = time.perf_counter() - started
        connection.close()
        yield Target(f"http://127.0.0.1:{port}", None, directory, process.pid), took * 1000
    finally:
        process.terminate()
        process.communicate()


def start() -> Figures:
    """The start of a daemon up to its first answer, and its memory when idle."""
    took, memory = [], []
    for _ in range(7):
        with tempfile.TemporaryDirectory() as directory, daemon(directory) as (target, milliseconds):
            took.append(milliseconds)
            time.sleep(_SETTLE_SECONDS)
            assert target.pid is not None
            memory.append(resident_mb(target.pid))
    return {"start_ms": statistics.median(took), "idle_memory_mb": statistics.median(memory)}


def loop_lag() -> Figures:
    """How late the event loop is when idle, and while a client takes 30 screenshots a second, JPEG at 1080p."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "lag")
        with daemon(directory, ("bench.lagging", str(file))) as (target, _):
            client = target.client()
            with started_desktop(client):
                time.sleep(_PHASE_SECONDS / 2)
                begun = time.monotonic()
                time.sleep(_PHASE_SECONDS)
                between = time.monotonic()
                _shoot(client)
                ended = time.monotonic()
        samples = [tuple(map(float, line.split())) for line in file.read_text().splitlines()]
    figures: Figures = {}
    for name, since, until in (("idle", begun, between), ("screenshots", between, ended)):
        found = [(late, held) for at, late, held in samples if since < at < until]
        late, held = zip(*found, strict=True)
        figures |= {
            f"loop_lag_p99_{name}_ms": statistics.quantiles(late, n=100)[-1],
            f"loop_lag_max_{name}_ms": max(late),
            f"loop_held_max_{name}_ms": max(held),
        }
    return figures


def _shoot(client: Client) -> None:
    query = {"format": "jpeg", "quality": "80"}
    due = time.perf_counter()
    for _ in range(int(_PHASE_SECONDS * _SHOTS_PER_SECOND)):
        client.call("GET", "/computeruse/screenshot/compressed", query=query)
        due += 1 / _SHOTS_PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
