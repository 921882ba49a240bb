"""The speed card: measured for real in part, judged and shown."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from bench.check import judge
from bench.limits import BESIDE
from bench.rows import ROWS
from bench.table import LINES

GOOD = {"version_ms": 0.3, "bare_request_ms": 0.1, "pty_mb_per_s": 60.0, "bare_pty_mb_per_s": 61.0}


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.json"
    path.write_text(json.dumps({"machine": "a machine", "figures": GOOD}))
    return path


def test_limits_are_of_rows_there_are() -> None:
    assert set(BESIDE) <= {row.__name__ for row in ROWS}
    assert len({line.figure for line in LINES}) == len(LINES)
    assert all((line.limit is None) == (line.factor is None) for line in LINES)


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, set()),
        ({"version_ms": 3.0}, {"version_ms"}),
        # All of the machine is slow: no regression.
        ({"version_ms": 3.0, "bare_request_ms": 1.0}, set()),
        ({"pty_mb_per_s": 10.0}, {"pty_mb_per_s"}),
        ({"pty_mb_per_s": 0.0}, {"pty_mb_per_s"}),
        ({"transfer_growth_mb": 15.0}, set()),
        ({"transfer_growth_mb": 0.0}, set()),
        ({"transfer_growth_mb": 17.0}, {"transfer_growth_mb"}),
        ({"loop_held_max_screenshots_ms": 11.0}, {"loop_held_max_screenshots_ms"}),
    ],
)
def test_what_is_too_far_from_its_limit_fails(changes: dict[str, float], failed: set[str]) -> None:
    figures = GOOD | changes
    texts, found = judge(figures)
    assert {line.figure for line in found} == failed
    judged = {line.figure for line in LINES if line.figure in figures}
    assert {text.split()[1] for text in texts} == judged


async def run(module: str, *argv: str) -> bytes:
    """Run a program of the card and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *argv), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


async def test_a_card_is_plotted_and_put_into_a_readme(card: Path) -> None:
    readme = card.with_name("README.md")
    readme.write_text("before\n<!-- speed card: made by bench.page -->\nold\n<!-- end of the speed card -->\nafter\n")
    await run("bench.page", str(card), "--readme", str(readme))
    page = card.with_suffix(".html").read_text()
    assert "<svg" in page
    assert re.findall(r"<(?:script|link|img|iframe)", page) == [], "it needs other files"
    lines = readme.read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    assert "| GET /version | 0.3 ms | ≤ 0.38 | 0.38 | 0.79 | 3.0 |" in lines
    assert "| PTY throughput | 60 MB/s | ≥ 50 | 35 | 0.58 | 1.0 |" in lines


async def test_a_row_is_measured() -> None:
    output = await run("bench.card", "version")
    assert set(json.loads(output)["figures"]) == {"version_ms", "bare_request_ms"}
