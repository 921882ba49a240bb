"""Every plot of the gallery is reported with the very numbers it was given, by the oldest and the newest matplotlib."""

import base64
import struct
from typing import Any

import pytest
from daytona.common.charts import parse_chart
from daytona_toolbox_api_client import Chart

from tests.charts.compare import differences, faults
from tests.charts.drawing import GROUPS, Drawn, draw
from tests.conftest import Daemon


@pytest.mark.parametrize("group", GROUPS)
async def test_group(daemon: Daemon, matplotlib: str, group: str, caplog: pytest.LogCaptureFixture) -> None:
    drawn = await draw(daemon.http, group)
    complaints = [f"{plot.name}: {text}" for plot in drawn for text in wrong(plot, matplotlib)]
    complaints += [record.getMessage() for record in caplog.records]  # the hook's own errors
    assert not complaints, "\n" + "\n".join(complaints)


def wrong(plot: Drawn, matplotlib: str) -> list[str]:
    """Return what is wrong with a plot's charts."""
    if plot.error:
        return [plot.error]
    if plot.missing:
        return [plot.missing] if matplotlib == "newest" else []
    if len(plot.charts) != len(plot.expected):
        return [f"{len(plot.charts)} charts, not {len(plot.expected)}"]
    found = []
    for expected, chart in zip(plot.expected, plot.charts, strict=True):
        found += differences(expected, chart) + faults(chart)
        found += unreadable(chart)
        picture = base64.b64decode(chart["png"], validate=True)
        if not picture.startswith(b"\x89PNG\r\n\x1a\n") or min(struct.unpack(">II", picture[16:24])) < 10:
            found.append("no picture")
    return found


CLASSES = {
    "line": "LineChart",
    "scatter": "ScatterChart",
    "bar": "BarChart",
    "pie": "PieChart",
    "box_and_whisker": "BoxAndWhiskerChart",
    "composite_chart": "CompositeChart",
    "unknown": "Chart",
}


def unreadable(chart: dict[str, Any]) -> list[str]:
    """Return what the published SDK does not make of a chart, or of one within it."""
    found = []
    generated = Chart.from_dict(chart)
    assert generated is not None
    parsed = parse_chart(generated)
    if type(parsed).__name__ != CLASSES[chart["type"]] or len(parsed.elements) != len(chart["elements"]):
        found.append(f"the SDK reads {parsed!r:.200}")
    if chart["type"] == "composite_chart":
        found += [text for part in chart["elements"] for text in unreadable(part)]
    return found
