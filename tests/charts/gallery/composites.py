"""Several charts in one figure."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.gridspec import GridSpec
from mpl_toolkits.axes_grid1 import host_subplot
from mpl_toolkits.axes_grid1.inset_locator import inset_axes

from .expected import Expected, bar, bars, bins, composite, line, pie, points, scatter, unknown, wedges
from .plot import plot

X = np.linspace(0, 10, 21)


@plot()
def grid_of_kinds() -> Expected:
    figure, axes = plt.subplots(2, 2)
    figure.suptitle("Four kinds")
    axes[0, 0].plot(X, np.sin(X), label="sine")
    axes[0, 0].set_title("line")
    axes[0, 1].bar(["a", "b"], [1, 2])
    axes[1, 0].scatter(X, X**2)
    axes[1, 0].set(xlabel="x", ylabel="square")
    axes[1, 1].hist([1, 2, 2, 3], bins=[1, 2, 3, 4])
    figure.tight_layout()
    return composite(
        line(points("sine", X, np.sin(X)), title="line"),
        bar(bars("ab", [1, 2]), x_scale="categorical"),
        scatter(points("_child0", X, X**2), x_label="x", y_label="square"),
        bar(bins([1, 2, 1], [1, 2, 3, 4])),
        title="Four kinds",
    )


@plot()
def shared_axes() -> Expected:
    figure, (upper, lower) = plt.subplots(2, sharex=True, sharey=True)
    upper.plot(X, X)
    lower.plot(X, -X)
    figure.supxlabel("time")
    figure.supylabel("volts")
    parts = line(points("_child0", X, X)), line(points("_child0", X, -X))
    return composite(*parts, x_label="time", y_label="volts")


@plot()
def unused_axes() -> Expected:
    _, axes = plt.subplots(2, 2)
    axes[0, 0].plot(X, X, label="only")
    axes[0, 1].set_visible(False)
    axes[1, 0].axis("off")
    return line(points("only", X, X))


@plot()
def twin_axes() -> Expected:
    _, left = plt.subplots()
    left.plot(X, np.exp(X), color="tab:red")
    left.set(xlabel="time", ylabel="exp", title="Two scales")
    right = left.twinx()
    right.plot(X, np.sin(X), color="tab:blue")
    right.set_ylabel("sin")
    return composite(
        line(points("_child0", X, np.exp(X)), title="Two scales", x_label="time", y_label="exp"),
        line(points("_child0", X, np.sin(X)), x_label="", y_label="sin"),
    )


@plot()
def bars_and_a_line_on_twin_axes() -> Expected:
    months = ["Jan", "Feb", "Mar"]
    _, left = plt.subplots()
    left.bar(months, [10, 20, 15], label="rain")
    right = left.twinx()
    right.plot(months, [1.5, 3, 8], "r-", label="warmth")
    return composite(
        bar(bars(months, [10, 20, 15], "rain"), x_scale="categorical"),
        line(points("warmth", range(3), [1.5, 3, 8]), x_scale="categorical"),
    )


@plot()
def parasite_axes() -> Expected:
    host = host_subplot(111)
    twin = host.twinx()
    host.plot([0, 1, 2], [0, 1, 2], label="Density")
    twin.plot([0, 1, 2], [0, 3, 2], label="Temperature")
    host.legend()
    return composite(line(points("Density", range(3), [0, 1, 2])), line(points("Temperature", range(3), [0, 3, 2])))


@plot()
def shared_colour_bar() -> Expected:
    figure, axes = plt.subplots(1, 2, layout="constrained")
    for n, ax in enumerate(axes):
        drawn = ax.scatter(X, X + n, c=X)
    figure.colorbar(drawn, ax=axes, label="value")
    return composite(scatter(points("_child0", X, X)), scatter(points("_child0", X, X + 1)))


@plot()
def images_with_colour_bars() -> Expected:
    figure, axes = plt.subplots(1, 2)
    for ax in axes:
        figure.colorbar(ax.imshow(np.eye(3)), ax=ax, orientation="horizontal")
    return composite(unknown(), unknown())


@plot()
def inset() -> Expected:
    _, ax = plt.subplots()
    ax.plot(X, X**2, label="whole")
    small = ax.inset_axes((0.1, 0.6, 0.3, 0.3))
    small.plot(X[:5], X[:5] ** 2, label="part")
    small.set_title("zoom")
    ax.indicate_inset_zoom(small)
    return composite(line(points("whole", X, X**2)), line(points("part", X[:5], X[:5] ** 2), title="zoom"))


@plot()
def inset_of_the_toolkit() -> Expected:
    _, ax = plt.subplots()
    ax.scatter(X, X, label="whole")
    small = inset_axes(ax, width="30%", height="30%", loc=4)
    small.hist([1, 2, 2], bins=[0.5, 1.5, 2.5])
    return composite(scatter(points("whole", X, X)), bar(bins([1, 2], [0.5, 1.5, 2.5])))


@plot()
def mosaic() -> Expected:
    _, axes = plt.subplot_mosaic([["big", "pie"], ["big", "bar"]])
    axes["big"].plot(X, X, label="big")
    axes["pie"].pie([1, 3], labels=["a", "b"])
    axes["bar"].barh(["x"], [2])
    parts = {
        "big": line(points("big", X, X)),
        "pie": pie(wedges("ab", [1, 3])),
        "bar": bar(bars("x", [2], horizontal=True), y_scale="categorical"),
    }
    return composite(*(parts[name] for name in axes))


@plot()
def grid_of_unequal_parts() -> Expected:
    figure = plt.figure(layout="constrained")
    grid = GridSpec(3, 3, figure=figure)
    figure.add_subplot(grid[0, :]).plot(X, X, label="wide")
    figure.add_subplot(grid[1:, 0]).plot(X, -X, label="tall")
    return composite(line(points("wide", X, X)), line(points("tall", X, -X)))


@plot()
def figures_in_a_figure() -> Expected:
    figure = plt.figure(layout="constrained")
    parts: Any = figure.subfigures(1, 2)
    left, right = parts
    left.suptitle("left")
    left.subplots().plot(X, X)
    right.subplots().scatter(X, X)
    figure.suptitle("Both")
    return composite(line(points("_child0", X, X)), scatter(points("_child0", X, X)), title="Both")


@plot()
def secondary_axis() -> Expected:
    _, ax = plt.subplots()
    ax.plot(X, X, label="angle")
    second = ax.secondary_xaxis("top", functions=(np.deg2rad, np.rad2deg))
    second.set_xlabel("radians")
    ax.set_xlabel("degrees")
    return line(points("angle", X, X), x_label="degrees")


@plot()
def marginal_histograms() -> Expected:
    counts, edges = np.histogram(X, 5)
    figure = plt.figure()
    grid = figure.add_gridspec(2, 2)
    main = figure.add_subplot(grid[1, 0])
    main.scatter(X, X)
    figure.add_subplot(grid[0, 0], sharex=main).hist(X, bins=5)
    figure.add_subplot(grid[1, 1], sharey=main).hist(X, bins=5, orientation="horizontal")
    sides = bar(bins(counts, edges)), bar(bins(counts, edges, horizontal=True))
    return composite(scatter(points("_child0", X, X)), *sides)
