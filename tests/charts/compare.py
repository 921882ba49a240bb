"""Compares charts with what they must be, number by number."""

import math
from typing import Any

from tests.charts.gallery.contract import SOMETHING

COMPUTED = {"angle", "position", "width"}
"""What matplotlib computes from what it is given, where the last digits may differ."""
PRECISION = 1e-6
"""Wedges are computed in single precision."""


def differences(expected: dict[str, Any], chart: dict[str, Any]) -> list[str]:
    """Return in what a chart is not as expected. Ticks are compared if they are expected, everything else always."""
    found = []
    for name, wanted in expected.items():
        if name != "elements" and chart.get(name, "") != wanted:
            found.append(f"{name}: {_short(chart.get(name, ''))}, not {_short(wanted)}")
    wanted, elements = expected["elements"], chart["elements"]
    if len(wanted) != len(elements):
        found.append(f"{len(elements)} elements, not {len(wanted)}: {_short(elements)}, not {_short(wanted)}")
    for number, (one, other) in enumerate(zip(wanted, elements, strict=False)):
        compare = differences if "elements" in one and "elements" in other else _fields
        found += [f"{number}. {text}" for text in compare(one, other)]
    return found


def faults(chart: dict[str, Any]) -> list[str]:
    """Return in what a chart is not sound, whatever it shows."""
    found = [name for name, value in chart.items() if isinstance(value, str) and not value]
    for axis in "xy":
        ticks, labels = chart.get(f"{axis}_ticks", []), chart.get(f"{axis}_tick_labels", [])
        if len(ticks) != len(labels) or not all(map(math.isfinite, ticks)):
            found.append(f"ticks of {axis}: {ticks} {labels}")
    if chart["type"] == "composite_chart":
        found += [fault for part in chart["elements"] for fault in faults(part)]
    return found


def _fields(expected: dict[str, Any], element: dict[str, Any]) -> list[str]:
    found = []
    for name in expected.keys() | element.keys():
        wanted, value = expected.get(name), element.get(name)
        if name == "value" and isinstance(value, str):
            value = float(value)
        if wanted == SOMETHING:
            same = bool(value)
        elif name in COMPUTED and isinstance(wanted, float) and isinstance(value, int | float):
            same = math.isclose(value, wanted, rel_tol=PRECISION, abs_tol=PRECISION)
        else:
            same = value == wanted
        if not same:
            found.append(f"{name}: {_short(value)}, not {_short(wanted)}")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else text[:200] + " ..."
