"""Numbers and text that JSON, and the strict models of the SDKs, accept."""

from __future__ import annotations

import math
import re
from typing import Any

MAX_NUMBERS = 1_000_000
"""Numbers of data that one figure reports; elements beyond are cut and say so (`truncated`: how many there were)."""
MAX_TEXT = 10_000
"""Characters."""

_MATHTEXT = re.compile(r"\$\\mathdefault\{(.*)\}\$")
_POWER = re.compile(r"\^\{([^{}]*)\}")
_NUMERIC = re.compile(r"[-\u2212+]?[\d.,]+([e^\u00d7][-\u2212+\d^]+)*%?")


class Budget:
    """How many more numbers a figure may report."""

    def __init__(self) -> None:
        self.left = MAX_NUMBERS

    def take(self, element: dict[str, Any], name: str, rows: Any, width: int = 1) -> None:
        """Set a field of an element to as many rows (a numpy array, `width` numbers each) as the budget has left."""
        allowed = self.left // width
        if len(rows) > allowed:
            element["truncated"] = len(rows)
            rows = rows[:allowed]
        self.left -= len(rows) * width
        element[name] = rows.tolist()


def finite(value: Any) -> float | None:
    """Return the number, or None for what is not a finite number (None, NaN, masked, ...)."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def number_text(value: float) -> str:
    """Write a number as people do: shortest form that reads back the same, whole numbers without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)


def text(value: Any) -> str:
    """Return valid Unicode of bounded length."""
    return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def plain(label: Any) -> str:
    """Return a tick label without the mark-up that matplotlib adds to its own numbers: `10^-1`, with an ASCII minus."""
    result = text(label)
    match = _MATHTEXT.fullmatch(result)
    if match:
        result = _POWER.sub(r"^\1", match.group(1)).replace(r"\times", "\u00d7").replace(" ", "")
    if _NUMERIC.fullmatch(result):
        result = result.replace("\u2212", "-")
    return result


def as_number(label: str) -> float | None:
    """Return the number that a tick label writes, if it writes one."""
    return finite(label.replace("\u2212", "-"))


def without_empty(chart: dict[str, Any]) -> dict[str, Any]:
    """Leave out empty texts."""
    return {name: value for name, value in chart.items() if not (isinstance(value, str) and not value)}


def rows_of(*columns: Any) -> Any:
    """Return columns of floats side by side, without the rows that have a masked or non-finite number."""
    import numpy as np  # noqa: PLC0415 -- matplotlib has loaded it

    filled: list[Any] = [np.ma.filled(np.ma.asarray(column, dtype=float), np.nan) for column in columns]
    rows = np.column_stack(filled)
    return rows[np.isfinite(rows).all(axis=1)]


def flat(groups: Any) -> list[Any]:
    """Return what is in lists of lists, or in the lists of a dict."""
    groups = groups.values() if isinstance(groups, dict) else groups
    found: list[Any] = []
    for group in groups:
        found += flat(group) if isinstance(group, (list, tuple)) else [group]
    return found
