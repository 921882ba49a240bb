"""Draws one group of plots, as a program of the user."""

from __future__ import annotations

import importlib
import json
import traceback
import warnings
from typing import Any

import matplotlib.pyplot as plt

from .contract import MARK
from .plot import Plot


def run(group: str) -> None:
    """Draw and show the plots of a module; print what must be reported of each, as a line of JSON.

    The figures of the last one stay open.
    """
    warnings.simplefilter("ignore")  # of the libraries about each other
    module = importlib.import_module(f".{group}", __package__)
    plots = [value for value in vars(module).values() if isinstance(value, Plot)]
    for plot in plots:
        said: dict[str, Any] = {"name": plot.name}
        if missing := plot.missing():
            print(json.dumps({**said, "missing": missing}))
            continue
        plt.figure(figsize=(1, 1))
        plt.figtext(0, 0, MARK + plot.name)
        plt.show()
        try:
            expected = plot.draw()
            said["expected"] = expected if isinstance(expected, list) else [expected]
        except Exception:  # noqa: BLE001 -- the others are still to be drawn
            said["error"] = traceback.format_exc()
        print(json.dumps(said))
        if plot is not plots[-1]:
            plt.show()
