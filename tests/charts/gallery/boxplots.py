"""Boxes and whiskers."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from .expected import Expected, box, boxes, composite, five_numbers, line, points
from .plot import plot

RANDOM = np.random.default_rng(4)
DATA = [np.append(RANDOM.normal(0, deviation, 60), [6 * deviation, -5 * deviation]) for deviation in (1, 2, 3)]
"""With outliers."""


@plot()
def plain_boxes() -> Expected:
    plt.boxplot(DATA)
    plt.ylabel("value")
    return boxes(*(box(str(n + 1), data) for n, data in enumerate(DATA)), y_label="value")


@plot()
def one_box() -> Expected:
    plt.boxplot(DATA[0])
    return boxes(box("1", DATA[0]))


@plot(matplotlib="3.9")
def labelled_boxes() -> Expected:
    plt.boxplot(DATA, tick_labels=["a", "b", "c"])
    return boxes(*(box(name, data) for name, data in zip("abc", DATA, strict=True)), x_scale="categorical")


@plot()
def filled_boxes() -> Expected:
    drawn = plt.boxplot(DATA, patch_artist=True, notch=True)
    for patch, colour in zip(drawn["boxes"], ["pink", "lightblue", "lightgreen"], strict=True):
        patch.set_facecolor(colour)
    plt.xticks([1, 2, 3], ["a", "b", "c"])
    return boxes(*(box(name, data) for name, data in zip("abc", DATA, strict=True)), x_scale="categorical")


@plot(matplotlib="3.10")
def horizontal_boxes() -> Expected:
    plt.boxplot(DATA, orientation="horizontal", patch_artist=True)
    return boxes(*(box(str(n + 1), data, horizontal=True) for n, data in enumerate(DATA)))


@plot()
def boxes_that_are_not_vertical() -> Expected:
    plt.boxplot(DATA, vert=False, showmeans=True, meanline=True)
    return boxes(*(box(str(n + 1), data, horizontal=True) for n, data in enumerate(DATA)))


@plot()
def long_whiskers() -> Expected:
    plt.boxplot(DATA, whis=3)
    return boxes(*(box(str(n + 1), data, whisker=3) for n, data in enumerate(DATA)))


@plot()
def whiskers_at_percentiles() -> Expected:
    plt.boxplot(DATA[0], whis=(0, 100))
    numbers = np.percentile(DATA[0], [0, 25, 50, 75, 100])
    return boxes(five_numbers("1", numbers))


@plot()
def boxes_without_outliers() -> Expected:
    plt.boxplot(DATA[0], showfliers=False, showcaps=False, showmeans=True)
    return boxes({**box("1", DATA[0]), "outliers": []})


@plot()
def boxes_of_known_numbers() -> Expected:
    statistics: list[dict[str, Any]] = [
        {"label": "first", "med": 5, "q1": 3, "q3": 8, "whislo": 1, "whishi": 10, "fliers": [12, 0.5]},
        {"label": "second", "med": 6.5, "q1": 4, "q3": 9, "whislo": 2, "whishi": 12, "fliers": []},
    ]
    plt.gca().bxp(statistics)
    names = ("whislo", "q1", "med", "q3", "whishi")
    found = [five_numbers(str(s["label"]), [s[name] for name in names], s["fliers"]) for s in statistics]
    return boxes(*found, x_scale="categorical")


@plot()
def groups_of_boxes() -> Expected:
    for n, (name, colour) in enumerate({"old": "tab:blue", "new": "tab:orange"}.items()):
        drawn = plt.boxplot(DATA[:2], positions=[n, 3 + n], patch_artist=True, boxprops={"facecolor": colour})
        drawn["boxes"][0].set_label(name)
    plt.xticks([0.5, 3.5], ["x", "y"])
    plt.legend()
    found = [box(label, data, group=group) for group in ("old", "new") for label, data in zip("xy", DATA, strict=False)]
    return boxes(*found)


@plot()
def boxes_of_one_value() -> Expected:
    plt.boxplot([[7, 7, 7], [1, 2, 3]])
    return boxes(box("1", [7, 7, 7]), box("2", [1, 2, 3]))


@plot()
def boxes_with_the_points_joined() -> Expected:
    medians = [np.median(data) for data in DATA]
    plt.boxplot(DATA)
    plt.plot([1, 2, 3], medians, "r-", label="medians")
    parts = boxes(*(box(str(n + 1), data) for n, data in enumerate(DATA)))
    return composite(parts, line(points("medians", [1, 2, 3], medians)))


@plot()
def logarithmic_boxes() -> Expected:
    data = [np.exp(values) for values in DATA]
    plt.boxplot(data)
    plt.yscale("log")
    return boxes(*(box(str(n + 1), values) for n, values in enumerate(data)), y_scale="log")
