"""Pies, rings and rings in rings."""

import numpy as np
from matplotlib import pyplot as plt

from .expected import Expected, composite, pie, wedges
from .plot import plot

ANIMALS = ["Frogs", "Hogs", "Dogs", "Logs"]
SIZES = [15, 30, 45, 10]


@plot()
def labelled_pie() -> Expected:
    plt.pie(SIZES, labels=ANIMALS)
    plt.title("Animals")
    return pie(wedges(ANIMALS, SIZES), title="Animals")


@plot()
def exploded_pie_with_percentages() -> Expected:
    _, ax = plt.subplots()
    ax.pie(SIZES, explode=(0, 0.1, 0, 0), labels=ANIMALS, autopct="%1.1f%%", shadow=True, startangle=90)
    ax.axis("equal")
    return pie(wedges(ANIMALS, SIZES))


@plot()
def ring_named_by_its_legend() -> Expected:
    _, ax = plt.subplots(subplot_kw={"aspect": "equal"})
    parts, *_ = ax.pie(SIZES, wedgeprops={"width": 0.5}, startangle=-40)
    ax.legend(parts, ANIMALS, title="Animals", loc="center left", bbox_to_anchor=(1, 0, 0.5, 1))
    return pie(wedges(ANIMALS, SIZES))


@plot()
def rings_in_rings() -> Expected:
    sizes = np.array([[60.0, 32], [37, 40], [29, 10]])
    _, ax = plt.subplots()
    ax.pie(sizes.sum(axis=1), radius=1, labels=list("abc"), wedgeprops={"width": 0.3, "edgecolor": "w"})
    ax.pie(sizes.flatten(), radius=0.7, labels=list("uvwxyz"), wedgeprops={"width": 0.3, "edgecolor": "w"})
    return pie(wedges("abc", sizes.sum(axis=1)), wedges("uvwxyz", sizes.flatten(), radius=0.7))


@plot()
def part_of_a_pie() -> Expected:
    plt.pie([0.25, 0.5], labels=["a", "b"], normalize=False, counterclock=False)
    return pie(wedges("ab", [0.25, 0.5], of=1))


@plot(matplotlib="3.7")
def pie_without_labels() -> Expected:
    plt.pie([1, 1, 2], hatch=["/", "o", "x"], radius=2)
    return pie(wedges(["", "", ""], [1, 1, 2], radius=2))


@plot()
def pie_with_an_empty_part() -> Expected:
    plt.pie([1, 0, 3], labels=["some", "none", "most"])
    return pie(wedges(["some", "none", "most"], [1, 0, 3]))


@plot()
def two_pies() -> Expected:
    figure, axes = plt.subplots(1, 2)
    figure.suptitle("Before and after")
    for ax, title, sizes in zip(axes, ("before", "after"), ([1, 2], [3, 1]), strict=True):
        ax.pie(sizes, labels=["a", "b"])
        ax.set_title(title)
    return composite(
        pie(wedges("ab", [1, 2]), title="before"), pie(wedges("ab", [3, 1]), title="after"), title="Before and after"
    )
