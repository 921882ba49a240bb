"""`python -m bench.check [--card FILE] [ROW ...]`: fail when a figure is too far from what limits it on this machine.

Both were measured in the same run, so a slow or busy machine cancels out. What fails is measured again, at most twice:
it fails if it is too far each time.
"""

import argparse
import json
import sys
from pathlib import Path

from bench.card import add_rows, measure_own
from bench.table import LINES, Line
from bench.target import Figures

_ROUNDS = 3
_NOISE_FREE = {"loop_held_max_screenshots_ms", "execute_50mb_growth_mb", "transfer_growth_mb"}
"""Figures that no other program on the machine makes worse: their bound itself is checked."""


def judge(figures: Figures) -> tuple[list[str], list[Line]]:
    """Return a line of text for each figure that can be judged, and the lines that failed."""
    texts, failed = [], []
    for line in LINES:
        ratio = line.ratio_to_limit(figures)
        if ratio is not None and line.factor is not None:
            good, shown = ratio <= line.factor, f"{ratio:8.2f} of at most {line.factor:g} times {line.limit}"
        elif line.figure in _NOISE_FREE and line.figure in figures:
            value = figures[line.figure]
            good, shown = bool(line.keeps_bound(value)), f"{value:8.2f} of at most {line.bound:g} {line.unit}"
        else:
            continue
        texts.append(f"{'ok  ' if good else 'FAIL'} {line.figure:30} {shown}")
        failed += [] if good else [line]
    return texts, failed


def main() -> int:
    """Print how each figure stands and return the exit code."""
    parser = argparse.ArgumentParser(description="The speed card against the limits of this machine.")
    add_rows(parser)
    parser.add_argument("--card", type=Path, help="a card written before; without it all is measured now")
    options = parser.parse_args()
    if options.card:
        texts, failed = judge(json.loads(options.card.read_text())["figures"])
    else:
        texts, failed = [], []
        for number in range(_ROUNDS):
            texts, again = judge(measure_own(options.rows))
            failed = [line for line in again if number == 0 or line in failed]
            if not failed:
                break
    print("\n".join(texts))
    for line in failed:
        print(f"too slow: {line.what}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
