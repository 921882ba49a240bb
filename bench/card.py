"""`python -m bench.card [--url URL --token TOKEN --directory DIR] [ROW ...]`: measure a toolbox, print one JSON card.

Without `--url` a daemon is started for it, and its start time and idle memory are measured too. The card goes to
`bench/results/` only with `--save NAME`.
"""

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rows import ROWS, Figures, Target


@contextmanager
def started_daemon(directory: str) -> Iterator[tuple[str, Figures]]:
    """Start a daemon; give its URL, and how long the first answer took and its idle memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "toolbox", "serve", "--port", "0", "--work-dir", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TOOLBOX_STATE_DIR": f"{directory}/.state", "TOOLBOX_RESOLUTION": "1920x1080"},
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(b" ", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/version")
        connection.getresponse().read()
        ready = time.perf_counter() - started
        time.sleep(0.5)
        status = Path(f"/proc/{process.pid}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        yield f"http://127.0.0.1:{port}", {"start_ms": ready * 1000, "idle_memory_mb": memory / 1024}
    finally:
        process.terminate()
        process.communicate()


def bare_limits() -> Figures:
    """What the machine itself takes: a fork, exec and wait of the shell, in milliseconds."""
    durations = []
    for _ in range(100):
        started = time.perf_counter()
        subprocess.run(["/bin/bash", "-c", "echo hi"], stdout=subprocess.PIPE, check=True)
        durations.append(time.perf_counter() - started)
    return {"bare_shell_ms": statistics.median(durations) * 1000}


def measure(target: Target, names: list[str]) -> Figures:
    """Run the rows named (all, if none is)."""
    figures: Figures = {}
    for row in ROWS:
        if not names or row.__name__ in names:
            figures |= row(target)
    return figures


def main() -> None:
    """Print the card."""
    parser = argparse.ArgumentParser(description="The speed card.")
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(row.__name__ for row in ROWS)}; all by default")
    parser.add_argument("--url", help="a running toolbox; without it one is started")
    parser.add_argument("--token")
    parser.add_argument("--directory", default="/tmp", help="directory in the sandbox that may be written to")
    parser.add_argument("--save", metavar="NAME", help="also write bench/results/NAME.json")
    options = parser.parse_args()
    card: Figures = bare_limits()
    if options.url:
        card |= measure(Target(options.url, options.token, options.directory), options.rows)
    else:
        with tempfile.TemporaryDirectory() as directory, started_daemon(directory) as (url, figures):
            card |= figures | measure(Target(url, None, directory), options.rows)
    text = json.dumps(
        {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "figures": {name: round(value, 3) for name, value in card.items()},
        },
        indent=2,
    )
    print(text)
    if options.save:
        results = Path(__file__).parent / "results"
        results.mkdir(exist_ok=True)
        (results / f"{options.save}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
