"""`python -m bench.compare URL_A URL_B`: measure two toolboxes in turn, A B A B, and print the ratio of each figure.

Taking turns cancels what the machine does meanwhile; the ratio is that of the medians.
"""

import argparse
import statistics

from bench.card import measure
from bench.rows import ROWS, Figures, Target


def main() -> None:
    """Print a table: figure, A, B, A/B."""
    parser = argparse.ArgumentParser(description="Two toolboxes side by side.")
    parser.add_argument("urls", nargs=2, metavar="URL")
    parser.add_argument("--tokens", nargs=2, default=[None, None])
    parser.add_argument("--directory", default="/tmp", help="directory in both sandboxes that may be written to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", default=[], help=f"of {', '.join(row.__name__ for row in ROWS)}")
    options = parser.parse_args()
    targets = [Target(url, token, options.directory) for url, token in zip(options.urls, options.tokens, strict=True)]
    rounds: list[list[Figures]] = [[], []]
    for _ in range(options.rounds):
        for cards, target in zip(rounds, targets, strict=True):
            cards.append(measure(target, options.rows))
    print(f"{'figure':28} {'A':>10} {'B':>10} {'A/B':>7}")
    for name in rounds[0][0]:
        a, b = (statistics.median(card[name] for card in cards) for cards in rounds)
        print(f"{name:28} {a:10.3f} {b:10.3f} {a / b:7.2f}")


if __name__ == "__main__":
    main()
