"""Has the gallery's plots drawn by a daemon."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.charts.gallery.contract import MARK

HERE = Path(__file__).parent
NOT_GROUPS = {"__init__", "expected", "contract", "plot", "run"}
GROUPS = sorted(path.stem for path in (HERE / "gallery").glob("*.py") if path.stem not in NOT_GROUPS)


@dataclass
class Drawn:
    """A plot that was drawn, or `missing` what it needs."""

    name: str
    missing: str = ""
    error: str = ""
    expected: list[dict[str, Any]] = field(default_factory=list)
    charts: list[dict[str, Any]] = field(default_factory=list)


async def run(http: aiohttp.ClientSession, code: str) -> dict[str, Any]:
    """Run a Python program and return the daemon's answer."""
    body = io.BytesIO(json.dumps({"code": code, "language": "python"}).encode())
    async with http.post("/process/code-run", data=body) as response:
        assert response.status == 200, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def draw(http: aiohttp.ClientSession, group: str) -> list[Drawn]:
    """Draw a group, in one program."""
    code = f"import sys\nsys.path.insert(0, {str(HERE)!r})\nfrom gallery.run import run\nrun({group!r})\n"
    answer = await run(http, code)
    assert answer["exitCode"] == 0, answer["result"]
    drawn = {}
    for line in answer["result"].splitlines():
        assert line.startswith('{"name": '), f"printed besides: {line}"
        said = json.loads(line)
        drawn[said["name"]] = Drawn(**said)
    owner = None
    for chart in answer.get("artifacts", {"charts": []})["charts"]:
        if chart.get("title", "").startswith(MARK):
            owner = drawn[chart["title"].removeprefix(MARK)]
        else:
            assert owner is not None
            owner.charts.append(chart)
    return list(drawn.values())
