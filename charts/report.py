"""Turn a finished figure into a chart and a picture."""

from __future__ import annotations

import traceback
import warnings
from typing import Any

from .extract import chart_of
from .picture import draw


def describe(figure: Any) -> tuple[dict[str, Any], bytes | None, list[str]]:
    """Return the figure's chart, its PNG if it could be drawn, and what went wrong on the way.

    The figure is drawn once, before its numbers are read: drawing settles limits, ticks and tick labels.
    """
    import numpy as np  # noqa: PLC0415 -- matplotlib has loaded it

    errors: list[str] = []
    chart: dict[str, Any] = {"type": "unknown", "elements": []}
    png = None
    # Warnings of ours would appear in the program's output, or stop us where the program made them errors.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            png = draw(figure)
        except Exception:
            errors.append("a figure could not be drawn\n" + traceback.format_exc())
        try:
            chart = chart_of(figure, errors)
        except Exception:
            errors.append("a figure could not be read\n" + traceback.format_exc())
    return chart, png, errors
