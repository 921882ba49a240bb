"""Describe a drawn figure as a chart, in the shape of the SDKs' chart classes.

A figure with one Axes and one kind of data is a chart of that kind; several make a `composite_chart`, whose elements
are charts. Two kinds of data in one Axes (bars and a line) are two charts of a composite. What has no data of these
kinds (images, 3-D, fills, contours ...) is `unknown`.
"""

from __future__ import annotations

import traceback
from typing import Any

from .series import Series
from .values import Budget, text, without_empty

Chart = dict[str, Any]
"""`type`, `title`, labels, ticks, scales and `elements`; finite numbers only, empty texts left out."""

MESHES = ("QuadMesh", "TriMesh", "PolyQuadMesh", "PcolorImage")


def chart_of(figure: Any, errors: list[str]) -> Chart:
    """Return the chart of a figure that was drawn; Axes that cannot be read become `unknown`, and an error."""
    budget = Budget()
    parts: list[Chart] = []
    for axes in _all_axes(figure):
        if not axes.get_visible() or _is_colour_bar(axes):
            continue
        try:
            parts += charts_of(axes, budget)
        except Exception:
            errors.append("an Axes could not be read\n" + traceback.format_exc())
            parts.append({"type": "unknown", "elements": []})
    title = _figure_title(figure)
    if len(parts) == 1:
        return without_empty({**parts[0], "title": parts[0].get("title") or title})
    if not parts:
        return without_empty({"type": "unknown", "title": title, "elements": []})
    titles = {part.get("title", "") for part in parts}
    return without_empty(
        {
            "type": "composite_chart",
            # Two charts of one Axes have one title.
            "title": title or (titles.pop() if len(titles) == 1 else ""),
            "x_label": _text_of(figure, "_supxlabel"),
            "y_label": _text_of(figure, "_supylabel"),
            "elements": parts,
        }
    )


def charts_of(axes: Any, budget: Budget) -> list[Chart]:
    """Return the charts of one Axes: none if it is empty."""
    if not (axes.lines or axes.collections or axes.patches or axes.images or axes.containers or axes.tables):
        return []
    series = Series(axes, budget)
    elements = {} if _is_unknown(axes) else series.elements()
    titles = [axes.get_title(loc) for loc in ("center", "left", "right")]
    common: Chart = {
        "title": text(next(filter(None, titles), "")),
        "x_label": series.x.label,
        "y_label": series.y.label,
    }
    ticks: Chart = {
        "x_ticks": series.x.ticks,
        "y_ticks": series.y.ticks,
        "x_tick_labels": series.x.tick_labels,
        "y_tick_labels": series.y.tick_labels,
        "x_scale": series.x.scale,
        "y_scale": series.y.scale,
    }
    if not elements:
        return [without_empty({"type": "unknown", **common, **ticks, "elements": []})]
    charts = []
    for kind, found in elements.items():
        shown = {"x_scale": "categorical", "y_scale": "categorical"} if kind == "pie" else ticks
        charts.append(without_empty({"type": kind, **common, **shown, "elements": found}))
    return charts


def _all_axes(figure: Any) -> list[Any]:
    """Return the Axes of a figure, and those inset into them or laid over them by `axes_grid1`."""
    found: list[Any] = []
    for axes in figure.axes:
        within = [*axes.child_axes, *getattr(axes, "parasites", [])]
        found += [axes, *(other for other in within if hasattr(other, "lines") and other not in figure.axes)]
    return found


def _is_colour_bar(axes: Any) -> bool:
    return getattr(axes, "_colorbar", None) is not None or axes.get_label() == "<colorbar>"


def _is_unknown(axes: Any) -> bool:
    """Tell whether the Axes shows what is no series of points, bars, wedges or boxes, whatever lies over it."""
    # On a polar plot or a map the numbers of x and y are no places from left to right and from bottom to top.
    if axes.name == "3d" or axes.images or not axes.transData.is_separable:
        return True
    for collection in axes.collections:
        kind = type(collection).__name__
        if kind in MESHES or (kind.endswith("PolyCollection") and collection.get_array() is not None):
            return True
    return False


def _figure_title(figure: Any) -> str:
    """Return the title over all Axes: `suptitle`, or the first text put into the figure."""
    title = _text_of(figure, "_suptitle")
    if title:
        return title
    labels = [getattr(figure, name, None) for name in ("_supxlabel", "_supylabel")]
    for other in figure.texts:
        if not any(other is label for label in labels):
            return text(other.get_text())
    return ""


def _text_of(figure: Any, name: str) -> str:
    found = getattr(figure, name, None)
    return text(found.get_text()) if found is not None else ""
