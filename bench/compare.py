"""`python -m bench.compare URL_A URL_B`: measure two toolboxes in turn, A B A B, and print the ratio of each figure.

Taking turns, row by row, cancels what the machine does meanwhile; the ratio is that of the medians. A row that one of
them cannot do is named and left out.
"""

import argparse
import statistics
import sys

from bench.rows import ROWS, Row
from bench.target import Figures, Target


def main() -> None:
    """Print a table: figure, A, B, A/B, and the spread of that ratio over the rounds."""
    parser = argparse.ArgumentParser(description="Two toolboxes side by side.")
    parser.add_argument("urls", nargs=2, metavar="URL")
    parser.add_argument("--tokens", nargs=2, default=[None, None])
    parser.add_argument("--directory", default="/tmp", help="directory in both sandboxes that may be written to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", default=[], help=f"of {', '.join(row.__name__ for row in ROWS)}")
    options = parser.parse_args()
    targets = [Target(url, token, options.directory) for url, token in zip(options.urls, options.tokens, strict=True)]
    print(f"{'figure':32} {'A':>10} {'B':>10} {'A/B':>7}   rounds")
    for row in ROWS:
        if options.rows and row.__name__ not in options.rows:
            continue
        try:
            _compare(row, targets, options.rounds)
        except (RuntimeError, OSError, LookupError, ValueError) as error:
            print(f"{row.__name__}: not comparable: {error}", file=sys.stderr)


def _compare(row: Row, targets: list[Target], rounds: int) -> None:
    cards: list[list[Figures]] = [[row(target) for target in targets] for _ in range(rounds)]
    for name in cards[0][0]:
        a, b = (statistics.median(card[side][name] for card in cards) for side in (0, 1))
        ratios = [card[0][name] / card[1][name] for card in cards if card[1][name]]
        shown = f"{a / b:7.2f}   {min(ratios):.2f}-{max(ratios):.2f}" if b else ""
        print(f"{name:32} {a:10.3f} {b:10.3f} {shown}", flush=True)


if __name__ == "__main__":
    main()
