"""Bars, and the other rectangles that stand for numbers."""

import datetime as dt
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from .expected import Expected, bar, bars, bins, composite, line, points, seconds
from .plot import plot

FRUIT = ["apple", "blueberry", "cherry"]


@plot()
def labelled_bars() -> Expected:
    _, ax = plt.subplots()
    drawn = ax.bar(FRUIT, [40, 100, 30.5], color=["red", "blue", "red"], label="supply")
    ax.bar_label(drawn)
    ax.set_ylabel("fruit")
    ax.legend()
    ticks = {"x_ticks": [0, 1, 2], "x_tick_labels": FRUIT, "x_scale": "categorical"}
    return bar(bars(FRUIT, [40, 100, 30.5], "supply"), y_label="fruit", **ticks)


@plot()
def grouped_bars() -> Expected:
    place, width = np.arange(3), 0.25
    groups = {"Adelie": [18.35, 18.43, 14.98], "Chinstrap": [38.79, 48.83, 47.50], "Gentoo": [189.95, 195.82, 217.19]}
    _, ax = plt.subplots(layout="constrained")
    for n, (name, values) in enumerate(groups.items()):
        ax.bar(place + width * n, values, width, label=name)
    ax.set_xticks(place + width, FRUIT)
    ax.legend(loc="upper left", ncols=3)
    found = [
        bars(FRUIT, values, name, at=place + width * n, width=width) for n, (name, values) in enumerate(groups.items())
    ]
    return bar(*found, x_scale="categorical")


@plot(matplotlib="3.11")
def grouped_bars_in_one_call() -> Expected:
    plt.gca().grouped_bar({"a": [1, 2], "b": [3, 4]}, tick_labels=["x", "y"], group_spacing=1)
    width = 1 / 3
    groups = [bars("xy", [1, 2], "a", at=[-width / 2, 1 - width / 2], width=width)]
    groups.append(bars("xy", [3, 4], "b", at=[width / 2, 1 + width / 2], width=width))
    return bar(*groups, x_scale="categorical")


@plot()
def stacked_bars() -> Expected:
    below, above = np.array([70, 31, 58]), np.array([82, 37, 66])
    plt.bar(FRUIT, below, 0.5, label="below")
    plt.bar(FRUIT, above, 0.5, label="above", bottom=below)
    plt.legend()
    return bar(
        bars(FRUIT, below, "below", width=0.5),
        bars(FRUIT, above, "above", width=0.5, base=below),
        x_scale="categorical",
    )


@plot()
def horizontal_bars() -> Expected:
    plt.barh(FRUIT, [3, 5.5, 1], xerr=[0.1, 0.2, 0.3], align="center")
    plt.gca().invert_yaxis()
    plt.xlabel("performance")
    plt.title("How fast")
    labels = {"title": "How fast", "x_label": "performance", "y_scale": "categorical"}
    return bar(bars(FRUIT, [3, 5.5, 1], "_container1", horizontal=True), **labels)


@plot()
def stacked_horizontal_bars() -> Expected:
    answers = np.array([[10, 15, 17], [26, 22, 29], [35, 37, 2]])
    starts = answers.cumsum(axis=1) - answers
    for n, name in enumerate(("no", "perhaps", "yes")):
        plt.barh(FRUIT, answers[:, n], left=starts[:, n], height=0.5, label=name)
    plt.legend(ncols=3)
    options = [{"width": 0.5, "base": starts[:, n], "horizontal": True} for n in range(3)]
    found = [bars(FRUIT, answers[:, n], name, **options[n]) for n, name in enumerate(("no", "perhaps", "yes"))]
    return bar(*found, y_scale="categorical")


@plot()
def bars_at_numbers() -> Expected:
    plt.bar([1.5, 3, 10], [1, 2, 3], width=[0.5, 1, 2])
    return bar(*(bars([f"{x:g}"], [y], at=[x], width=w) for x, y, w in [(1.5, 1, 0.5), (3, 2, 1), (10, 3, 2)]))


@plot()
def bars_of_one_height() -> Expected:
    plt.bar([0, 1, 2], [4, 4, 4])
    return bar(bars("012", [4, 4, 4]))


@plot()
def negative_and_missing_bars() -> Expected:
    plt.bar(["a", "b", "c", "d"], [-1, np.nan, 0, 2])
    return bar(bars("acd", [-1, 0, 2], at=[0, 2, 3]), x_scale="categorical")


@plot()
def bars_with_errors() -> Expected:
    plt.bar(FRUIT, [1, 2, 3], yerr=[0.1, 0.2, 0.3], capsize=8, hatch="/")
    return bar(bars(FRUIT, [1, 2, 3], "_container1"), x_scale="categorical")


@plot()
def logarithmic_bars() -> Expected:
    plt.bar(FRUIT, [1, 1000, 1e6], log=True)
    return bar(bars(FRUIT, [1, 1000, 1e6]), x_scale="categorical", y_scale="log")


@plot()
def bars_on_edges() -> Expected:
    plt.bar([0, 1, 2], [1, 3, 2], width=1, align="edge", edgecolor="white")
    names = ["[0, 1)", "[1, 2)", "[2, 3)"]
    return bar(bars(names, [1, 3, 2], at=[0.5, 1.5, 2.5], width=1))


@plot()
def pyramid() -> Expected:
    ages = ["0-19", "20-39", "40-59"]
    plt.barh(ages, [-5, -7, -4], label="men")
    plt.barh(ages, [6, 7, 5], label="women")
    plt.legend()
    found = [bars(ages, [-5, -7, -4], "men", horizontal=True), bars(ages, [6, 7, 5], "women", horizontal=True)]
    return bar(*found, y_scale="categorical")


@plot()
def waterfall() -> Expected:
    change = np.array([100.0, -30, 15.5])
    start = change.cumsum() - change
    plt.bar(FRUIT, change, bottom=start)
    return bar(bars(FRUIT, change, base=start), x_scale="categorical")


@plot()
def broken_bars() -> Expected:
    _, ax = plt.subplots()
    ax.broken_barh([(110, 30), (150, 10.5)], (10, 9), facecolors="tab:blue")
    ax.broken_barh([(10, 50), (100, 20)], (20, 9), facecolors=("tab:orange", "tab:green"), label="Bill")
    ax.set_yticks([15, 25], labels=["Ann", "Bill"])
    first = bars(["Ann", "Ann"], [30, 10.5], "_child0", at=[14.5, 14.5], width=9, base=[110, 150], horizontal=True)
    second = bars(["Bill", "Bill"], [50, 20], "Bill", at=[24.5, 24.5], width=9, base=[10, 100], horizontal=True)
    return bar(first, second)


@plot()
def broken_bars_of_dates() -> Expected:
    start, days = dt.datetime(2024, 1, 1), [dt.timedelta(days=2), dt.timedelta(hours=6)]
    ranges: Any = [(start, days[0]), (start + days[0], days[1])]
    plt.broken_barh(ranges, (0, 2))
    base = [seconds(start), seconds(start + days[0])]
    options: dict[str, Any] = {"at": [1, 1], "width": 2, "base": base, "horizontal": True}
    return bar(bars(["1", "1"], [2 * 86400, 6 * 3600], "_child0", **options), x_scale="datetime")


@plot()
def broken_bars_in_an_array() -> Expected:
    plt.broken_barh(np.array([[0.1, 0.2], [1, 2]]), (0, 1))
    return bar(bars(["0.5", "0.5"], [0.2, 2], "_child0", at=[0.5, 0.5], width=1, base=[0.1, 1], horizontal=True))


@plot()
def bars_with_separate_errors() -> Expected:
    plt.bar([1, 2], [3, 4], label="bars")
    plt.errorbar([1, 2], [3, 4], yerr=0.2, fmt="none", capsize=3, color="black")
    return bar(bars("12", [3, 4], "bars", at=[1, 2]))


@plot()
def bars_and_a_line() -> Expected:
    _, ax = plt.subplots()
    ax.bar(FRUIT, [1, 2, 3], label="sold")
    ax.plot(FRUIT, [2, 2.5, 1], "o-", color="black", label="planned")
    ax.legend()
    ax.set_title("Sales")
    common = {"title": "Sales", "x_scale": "categorical"}
    both = [bar(bars(FRUIT, [1, 2, 3], "sold"), **common), line(points("planned", range(3), [2, 2.5, 1]), **common)]
    return composite(*both, title="Sales")


@plot()
def stairs() -> Expected:
    counts, edges = np.array([1, 3, 2]), np.array([0, 1, 2.5, 4])
    plt.stairs(counts, edges, fill=True, label="steps")
    names = ["[0, 1)", "[1, 2.5)", "[2.5, 4)"]
    places, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    found = zip(names, counts, places, widths, strict=True)
    return bar(*(bars([name], [count], "steps", at=[at], width=width) for name, count, at, width in found))


@plot()
def horizontal_stairs_on_a_base() -> Expected:
    plt.stairs([1, 2], [0, 1, 2], orientation="horizontal", baseline=[0.5, 0.25])
    return bar(bins([0.5, 1.75], [0, 1, 2], "_child0", base=[0.5, 0.25], horizontal=True))
