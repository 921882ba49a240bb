"""`python -m bench.page CARD.json [--readme FILE]`: plot a card beside the reference; put its table into a README."""

import argparse
import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.table import LINES, Line

_BEGIN, _END = "<!-- speed card: made by bench.page -->", "<!-- end of the speed card -->"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}.no{color:#b00}svg{width:100%;height:auto}"
)
_COLOURS = {True: "#2a7", False: "#c33", None: "#888"}


def write_page(card: Path) -> None:
    """Write the picture and the page of a card beside it."""
    content = json.loads(card.read_text())
    svg = _picture(content)
    card.with_suffix(".svg").write_text(svg)
    body = [f"<h1>Speed card</h1><p>{html.escape(content['machine'])}</p>", svg[svg.index("<svg") :], "<table>"]
    head, *rows = _rows(content["figures"])
    body.append("<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>")
    body += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    body += ["</table><h2>Every figure</h2><table>"]
    body += [f"<tr><td>{html.escape(name)}</td><td>{value:g}</td></tr>" for name, value in content["figures"].items()]
    page = (
        f"<!doctype html><meta charset=utf-8><title>Speed card</title><style>{_STYLE}</style>{''.join(body)}</table>\n"
    )
    card.with_suffix(".html").write_text(page)


def _picture(content: dict[str, Any]) -> str:
    """Return the figures as parts of the reference's, as SVG."""
    import io

    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "speed card"
    import matplotlib.pyplot as plt

    figures = content["figures"]
    shown = [
        (line, ratio)
        for line in reversed(LINES)
        if line.figure in figures and (ratio := line.ratio_to_reference(figures[line.figure])) is not None
    ]
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(shown) + 1.2), layout="constrained")
    colours = [_COLOURS[line.keeps_bound(figures[line.figure])] for line, _ in shown]
    axes.hlines(range(len(shown)), 1, [ratio for _, ratio in shown], color=colours, linewidth=5)
    for place, (line, ratio) in enumerate(shown):
        text = f" {_number(figures[line.figure])} {line.unit} "
        axes.text(ratio, place, text, va="center", ha="right" if ratio <= 1 else "left", fontsize=8)
    axes.set_yticks(range(len(shown)), [line.what for line, _ in shown], fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1, color="#444", linewidth=1)
    axes.set_xlabel(
        "time (or the inverse of throughput) as a part of the reference daemon's: left is faster", fontsize=8
    )
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def _rows(figures: dict[str, float]) -> Iterator[tuple[str, ...]]:
    """Yield the head of the table, and a row for each line that was measured."""
    yield "operation", "measured", "bound", "reference", "÷ reference", "÷ limit of the machine"
    for line in LINES:
        if line.figure in figures:
            yield _row(line, figures)


def _row(line: Line, figures: dict[str, float]) -> tuple[str, ...]:
    value = figures[line.figure]
    sign = "≥ " if line.more_is_better else "≤ "
    reference, limit = line.ratio_to_reference(value), line.ratio_to_limit(figures)
    return (
        line.what,
        f"{_number(value)} {line.unit}",
        f"{sign}{_number(line.bound)}" if line.bound is not None else "",
        _number(line.reference) if line.reference is not None else "",
        f"{reference:.2f}" if reference is not None else "",
        f"{limit:.1f}" if limit is not None else "",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def put_table(card: Path, readme: Path) -> None:
    """Put the table of a card between its marks in a Markdown file. Raises `ValueError` where it has none."""
    content = json.loads(card.read_text())
    head, *rows = _rows(content["figures"])
    lines = [head, ("---",) + ("---:",) * (len(head) - 1), *rows]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    text = readme.read_text()
    before, after = text[: text.index(_BEGIN)], text[text.index(_END) :]
    readme.write_text(f"{before}{_BEGIN}\n{table}\n\nMeasured on: {content['machine']}.\n{after}")


def main() -> None:
    """Write the page, and the table if asked."""
    parser = argparse.ArgumentParser(description="A speed card as a picture, a page and a table.")
    parser.add_argument("card", type=Path)
    parser.add_argument("--readme", type=Path, help="Markdown file whose table is replaced")
    options = parser.parse_args()
    write_page(options.card)
    if options.readme:
        put_table(options.card, options.readme)


if __name__ == "__main__":
    main()
