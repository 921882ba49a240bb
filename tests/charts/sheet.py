"""`python -m tests.charts.sheet FILE`: draws the gallery, and makes one picture of all its plots."""

import argparse
import asyncio
import base64
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

from tests.charts.drawing import GROUPS, Drawn, draw
from tests.conftest import run_daemon
from toolbox.config import ServeConfig

COLUMNS = 12
CARD = (232, 204)
"""Pixels of a plot with its caption, of which the plot takes the upper part."""
PICTURE = (216, 156)
GAP = 10
HEADING = 44
PAPER, WHITE, INK, FAINT = "#eceff1", "#ffffff", "#263238", "#78909c"
COLOURS = {
    "line": "#1565c0",
    "scatter": "#00838f",
    "bar": "#ef6c00",
    "pie": "#ad1457",
    "box_and_whisker": "#6a1b9a",
    "composite_chart": "#2e7d32",
    "unknown": "#757575",
}
FONTS = Path(mpl.get_data_path(), "fonts/ttf")
Card = tuple[str, dict[str, Any]]


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="sheet", description="Draw the gallery's plots into one picture.")
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args().file
    groups = asyncio.run(draw_all())
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet(groups).save(file, optimize=True)
    count = sum(len(cards) for cards in groups.values())
    print(f"{file}: {count} charts")
    return 0


async def draw_all() -> dict[str, list[Card]]:
    """Return the charts of every group, with their captions, as a daemon started for it has returned them."""
    groups = {}
    with tempfile.TemporaryDirectory() as directory:
        options = {"port": "0", "work_dir": directory, "state_dir": f"{directory}/state"}
        config = ServeConfig.load({**options, "kernel_python": sys.executable}, {"HOME": directory})
        async with run_daemon(config) as daemon:
            for group in GROUPS:
                groups[group] = [card for plot in await draw(daemon.http, group) for card in cards_of(plot)]
    return groups


def cards_of(plot: Drawn) -> list[Card]:
    """Return the charts of a plot, numbered if there are several."""
    name = plot.name.replace("_", " ")
    if len(plot.charts) == 1:
        return [(name, plot.charts[0])]
    return [(f"{name} {number}", chart) for number, chart in enumerate(plot.charts, 1)]


def sheet(groups: dict[str, list[Card]]) -> Image.Image:
    """Return the picture: group under group, each with its heading."""
    rows = sum(-(-len(cards) // COLUMNS) for cards in groups.values())
    width = GAP + COLUMNS * (CARD[0] + GAP)
    height = GAP + len(groups) * HEADING + rows * (CARD[1] + GAP)
    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    heading = ImageFont.truetype(FONTS / "DejaVuSans-Bold.ttf", 20)
    y = GAP
    for group, cards in groups.items():
        pen.text((GAP, y + HEADING / 2), f"{group.replace('_', ' ')} ({len(cards)})", INK, heading, anchor="lm")
        y += HEADING
        for start in range(0, len(cards), COLUMNS):
            for column, card in enumerate(cards[start : start + COLUMNS]):
                place(page, card, (GAP + column * (CARD[0] + GAP), y))
            y += CARD[1] + GAP
    return page


def place(page: Image.Image, card: Card, corner: tuple[int, int]) -> None:
    """Put one chart's picture on the page, its name and what it was read as below."""
    name, chart = card
    x, y = corner
    pen = ImageDraw.Draw(page)
    pen.rounded_rectangle((x, y, x + CARD[0], y + CARD[1]), 6, WHITE)
    picture = Image.open(io.BytesIO(base64.b64decode(chart["png"]))).convert("RGB")
    picture.thumbnail(PICTURE, Image.Resampling.LANCZOS)
    margin = (CARD[0] - PICTURE[0]) // 2
    left, top = (PICTURE[0] - picture.width) // 2, (PICTURE[1] - picture.height) // 2
    page.paste(picture, (x + margin + left, y + margin + top))
    middle = x + CARD[0] / 2
    for text, colour, font, line in (
        (name, INK, "DejaVuSans.ttf", 26),
        (reading(chart), COLOURS[chart["type"]], "DejaVuSans-Bold.ttf", 11),
    ):
        size = 11.0
        while pen.textlength(text, ImageFont.truetype(FONTS / font, size)) > PICTURE[0]:
            size -= 0.5
        pen.text((middle, y + CARD[1] - line), text, colour, ImageFont.truetype(FONTS / font, size), anchor="mm")


def reading(chart: dict[str, Any]) -> str:
    """Return what a chart was read as: its type, and how many elements; of a composite one those of its charts."""
    kind, elements = chart["type"], chart["elements"]
    if kind == "unknown":
        return "unknown"
    if kind == "composite_chart":
        return f"composite_chart: {' + '.join(part['type'] for part in elements)}"
    return f"{kind} ({len(elements)})"


if __name__ == "__main__":
    sys.exit(main())
