"""`python -m bench.card [--url URL --token TOKEN --directory DIR] [ROW ...]`: measure a toolbox, print one JSON card.

Without `--url` a daemon is started for it; its start, idle memory and event loop are measured too, and beside each row
what limits it. `--save NAME` also writes `bench/results/NAME.json` and, plotted, `NAME.svg` and `NAME.html`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from bench import started
from bench.limits import BESIDE, aiohttp_start
from bench.rows import ROWS
from bench.target import Figures, Target

RESULTS = Path(__file__).parent / "results"
START, LAG = "start", "loop_lag"
NAMES = (START, *(row.__name__ for row in ROWS), LAG)


def measure(target: Target, names: Collection[str] = (), *, limits: bool = False) -> Figures:
    """Run the rows named (all, if none is), and beside each, if wanted, what limits it."""
    figures: Figures = {}
    for row in ROWS:
        if not names or row.__name__ in names:
            print(row.__name__, end=" ", file=sys.stderr, flush=True)
            figures |= row(target)
            for limit in BESIDE.get(row.__name__, ()) if limits else ():
                figures |= limit(target)
    print(file=sys.stderr)
    return figures


def measure_own(names: Collection[str] = ()) -> Figures:
    """Measure a daemon started for it, with all limits."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as directory, started.daemon(directory) as (target, _):
        if not names or START in names:
            figures |= started.start() | aiohttp_start(target)
        figures |= measure(target, names, limits=True)
    if not names or LAG in names:
        figures |= started.loop_lag()
    return figures


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Let a command line name rows."""
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(NAMES)}; all by default")


def as_card(figures: Figures) -> dict[str, object]:
    """Return the card as it is written: the machine, and the figures."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "figures": {name: round(value, 3) for name, value in figures.items()},
    }


def main() -> None:
    """Print the card."""
    parser = argparse.ArgumentParser(description="The speed card.")
    add_rows(parser)
    parser.add_argument("--url", help="a running toolbox; without it one is started")
    parser.add_argument("--token")
    parser.add_argument("--directory", default="/tmp", help="directory in the sandbox that may be written to")
    parser.add_argument("--save", metavar="NAME", help="also write bench/results/NAME.json, .svg and .html")
    options = parser.parse_args()
    if options.url:
        figures = measure(Target(options.url, options.token, options.directory), options.rows)
    else:
        figures = measure_own(options.rows)
    text = json.dumps(as_card(figures), indent=2)
    print(text)
    if options.save:
        from bench.page import write_page

        RESULTS.mkdir(exist_ok=True)
        card = RESULTS / f"{options.save}.json"
        card.write_text(text + "\n")
        write_page(card)


if __name__ == "__main__":
    main()
