"""Points."""

import numpy as np
from matplotlib import pyplot as plt

from .expected import Expected, composite, line, points, scatter
from .plot import plot

RANDOM = np.random.default_rng(2)
X, Y = RANDOM.normal(size=(2, 40))


@plot()
def plain_points() -> Expected:
    plt.scatter(X, Y)
    return scatter(points("_child0", X, Y))


@plot()
def coloured_by_value() -> Expected:
    shown = plt.scatter(X, Y, c=X + Y, s=50 * np.abs(Y), cmap="viridis", alpha=0.5, edgecolors="none")
    plt.colorbar(shown, label="sum")
    plt.title("Bubbles")
    return scatter(points("_child0", X, Y), title="Bubbles")


@plot()
def one_call_for_each_group() -> Expected:
    for n, (name, marker) in enumerate({"a": "o", "b": "x", "c": "^"}.items()):
        plt.scatter(X + n, Y, label=name, marker=marker)
    plt.legend()
    return scatter(*(points(name, X + n, Y) for n, name in enumerate("abc")))


@plot()
def legend_of_colours() -> Expected:
    kind = np.arange(40) % 3
    drawn = plt.scatter(X, Y, c=kind)
    handles, _ = drawn.legend_elements()
    plt.legend(handles, ["red", "green", "blue"], title="kind")
    names = enumerate(("red", "green", "blue"))
    return scatter(*(points(name, X[kind == n], Y[kind == n]) for n, name in names))


@plot()
def list_of_colours() -> Expected:
    plt.scatter([1, 2, 3], [4, 5, 6], c=["red", "green", "blue"], label="dots")
    return scatter(points("dots", [1, 2, 3], [4, 5, 6]))


@plot()
def logarithmic_points() -> Expected:
    plt.scatter(np.exp(X), np.exp(Y))
    plt.xscale("log")
    plt.yscale("log")
    return scatter(points("_child0", np.exp(X), np.exp(Y)), x_scale="log", y_scale="log")


@plot()
def points_and_their_trend() -> Expected:
    slope, start = np.polyfit(X, Y, 1)
    ends = np.array([X.min(), X.max()])
    plt.scatter(X, Y, label="data")
    plt.plot(ends, start + slope * ends, color="red", label="trend")
    plt.legend()
    plt.title("Fit")
    both = [line(points("trend", ends, start + slope * ends), title="Fit"), scatter(points("data", X, Y), title="Fit")]
    return composite(*both, title="Fit")


@plot()
def no_points_at_all() -> Expected:
    plt.scatter([], [])
    return {**scatter(), "type": "unknown"}
