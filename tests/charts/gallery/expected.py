"""Charts as they must be reported, put together from data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import numpy as np

Element = dict[str, Any]
Expected = dict[str, Any]


def chart(kind: str, *elements: Element, **fields: Any) -> Expected:
    """Return a chart with two axes; what is not given of titles and scales is empty and linear."""
    common = {"title": "", "x_label": "", "y_label": "", "x_scale": "linear", "y_scale": "linear"}
    return {"type": kind, **common, **fields, "elements": list(elements)}


def line(*elements: Element, **fields: Any) -> Expected:
    return chart("line", *elements, **fields)


def scatter(*elements: Element, **fields: Any) -> Expected:
    return chart("scatter", *elements, **fields)


def bar(*elements: list[Element], **fields: Any) -> Expected:
    return chart("bar", *(element for group in elements for element in group), **fields)


def boxes(*elements: Element, **fields: Any) -> Expected:
    return chart("box_and_whisker", *elements, **fields)


def unknown(**fields: Any) -> Expected:
    return chart("unknown", **fields)


def pie(*elements: list[Element], **fields: Any) -> Expected:
    wedges = [element for ring in elements for element in ring]
    return chart("pie", *wedges, **{"x_scale": "categorical", "y_scale": "categorical", **fields})


def composite(*charts: Expected, title: str = "", **fields: Any) -> Expected:
    return {"type": "composite_chart", "title": title, **fields, "elements": list(charts)}


def points(label: str, x: Iterable[Any], y: Iterable[Any]) -> Element:
    """Return a line, or what one `scatter` has drawn."""
    return {"label": label, "points": [[float(a), float(b)] for a, b in zip(x, y, strict=True)]}


def bars(
    labels: Iterable[str],
    values: Iterable[Any],
    group: str = "_container0",
    *,
    at: Iterable[Any] | None = None,
    width: float = 0.8,
    base: Iterable[Any] | None = None,
    horizontal: bool = False,
) -> list[Element]:
    """Return bars of one group; without `at` they stand at 0, 1, 2 ..."""
    found = []
    names, lengths = list(labels), [float(value) for value in values]
    places = range(len(names)) if at is None else at
    bases = [0.0] * len(names) if base is None else base
    for name, length, place, start in zip(names, lengths, places, bases, strict=True):
        element = {
            "label": name,
            "group": group,
            "value": length,
            "orientation": "horizontal" if horizontal else "vertical",
            "position": float(place),
            "width": float(width),
        }
        if start:
            element["base"] = float(start)
        found.append(element)
    return found


def bins(
    counts: Iterable[Any],
    edges: Iterable[Any],
    group: str = "_container0",
    *,
    base: Iterable[Any] | None = None,
    horizontal: bool = False,
) -> list[Element]:
    """Return the bars of a histogram, each called as its bin."""
    ends = [float(edge) for edge in edges]
    found = []
    lengths = [float(count) for count in counts]
    bases = [0.0] * len(lengths) if base is None else base
    for length, start, end, low in zip(lengths, ends[:-1], ends[1:], bases, strict=True):
        name = f"[{start:.10g}, {end:.10g})"
        options: dict[str, Any] = {"width": end - start, "base": [low], "horizontal": horizontal}
        found += bars([name], [length], group, at=[(start + end) / 2], **options)
    return found


def wedges(
    labels: Iterable[str], sizes: Iterable[float], *, of: float | None = None, radius: float = 1
) -> list[Element]:
    """Return one ring of a pie, `of` so much in all."""
    shares = [float(size) for size in sizes]
    whole = sum(shares) if of is None else of
    return [
        {"label": label, "angle": 360 * share / whole, "radius": float(radius)}
        for label, share in zip(labels, shares, strict=True)
    ]


def seconds(moment: dt.datetime | dt.date) -> float:
    """Return a date as it is reported: seconds since 1970."""
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime(moment.year, moment.month, moment.day, tzinfo=dt.UTC)
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def box(label: str, data: Any, *, whisker: float = 1.5, horizontal: bool = False, group: str = "") -> Element:
    """Return a box with whiskers that reach to the last value within so many times the height of the box."""
    values = np.asarray(data, dtype=float)
    first, median, third = np.percentile(values, [25, 50, 75]).tolist()
    reach = whisker * (third - first)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    low, high = min(inside.min(), first), max(inside.max(), third)
    outliers = [*values[values < low].tolist(), *values[values > high].tolist()]
    return five_numbers(label, [low, first, median, third, high], outliers, horizontal=horizontal, group=group)


def five_numbers(
    label: str, numbers: Iterable[float], outliers: Iterable[float] = (), *, horizontal: bool = False, group: str = ""
) -> Element:
    """Return a box of known numbers, from the lower whisker to the upper."""
    names = ("min", "first_quartile", "median", "third_quartile", "max")
    element: Element = {"label": label, "orientation": "horizontal" if horizontal else "vertical"}
    if group:
        element["group"] = group
    element |= {name: float(number) for name, number in zip(names, numbers, strict=True)}
    return {**element, "outliers": [float(value) for value in outliers]}
