"""What is no series of points, bars, wedges or boxes: the picture is all there is."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Circle
from matplotlib.tri import Triangulation

from .expected import Expected, unknown
from .plot import plot

U, V = np.meshgrid(np.linspace(-2, 2, 12), np.linspace(-2, 2, 10))
HEIGHT = np.exp(-(U**2) - V**2)
LINE = np.linspace(0, 2 * np.pi, 30)
RADIAL = {"x_scale": "linear", "y_scale": "linear"}


@plot()
def image() -> Expected:
    plt.imshow(HEIGHT, origin="lower", extent=(-2, 2, -2, 2))
    plt.colorbar()
    plt.title("Heat")
    return unknown(title="Heat")


@plot()
def matrix() -> Expected:
    plt.matshow(np.eye(4))
    return unknown()


@plot()
def annotated_heat_map() -> Expected:
    values = np.arange(6).reshape(2, 3)
    _, ax = plt.subplots()
    ax.imshow(values)
    ax.set_xticks(range(3), labels=["a", "b", "c"])
    ax.set_yticks(range(2), labels=["x", "y"])
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, str(value), ha="center")
    names = {"x_tick_labels": ["a", "b", "c"], "y_tick_labels": ["x", "y"]}
    return unknown(x_scale="categorical", y_scale="categorical", **names)


@plot()
def contours() -> Expected:
    drawn = plt.contour(U, V, HEIGHT)
    plt.clabel(drawn)
    return unknown()


@plot()
def filled_contours() -> Expected:
    plt.contourf(U, V, HEIGHT, levels=8)
    plt.colorbar()
    return unknown()


@plot()
def mesh() -> Expected:
    plt.pcolormesh(U, V, HEIGHT, shading="auto")
    return unknown()


@plot()
def triangles() -> Expected:
    x, y = np.random.default_rng(5).uniform(size=(2, 20))
    plt.tripcolor(Triangulation(x, y), x + y)
    return unknown()


@plot()
def hexagons() -> Expected:
    x, y = np.random.default_rng(6).normal(size=(2, 500))
    plt.hexbin(x, y, gridsize=12)
    return unknown()


@plot()
def histogram_in_two_dimensions() -> Expected:
    x, y = np.random.default_rng(7).normal(size=(2, 500))
    plt.hist2d(x, y, bins=10)
    return unknown()


@plot()
def line_in_space() -> Expected:
    ax = plt.figure().add_subplot(projection="3d")
    ax.plot(np.cos(LINE), np.sin(LINE), LINE, label="spiral")
    ax.legend()
    return unknown()


@plot()
def points_in_space() -> Expected:
    ax = plt.figure().add_subplot(projection="3d")
    ax.scatter(np.cos(LINE), np.sin(LINE), LINE)
    ax.set_xlabel("X")
    return unknown(x_label="X")


@plot()
def surface() -> Expected:
    ax: Any = plt.figure().add_subplot(projection="3d")
    ax.plot_surface(U, V, HEIGHT)
    return unknown()


@plot()
def bars_in_space() -> Expected:
    ax = plt.figure().add_subplot(projection="3d")
    ax.bar3d([0, 1], [0, 1], [0, 0], 0.5, 0.5, [1, 2])
    return unknown()


@plot()
def area_between() -> Expected:
    plt.fill_between(LINE, np.sin(LINE), 0)
    return unknown()


@plot()
def polygon() -> Expected:
    plt.fill([0, 1, 0.5], [0, 0, 1])
    return unknown()


@plot()
def stacked_areas() -> Expected:
    plt.stackplot([1, 2, 3], [1, 2, 3], [3, 2, 1], labels=["a", "b"])
    plt.legend()
    return unknown()


@plot()
def arrows() -> Expected:
    plt.quiver(U, V, -V, U)
    return unknown()


@plot()
def wind() -> Expected:
    plt.barbs(U, V, 20 * U, 20 * V)
    return unknown()


@plot()
def streams() -> Expected:
    plt.streamplot(U, V, -V, U)
    return unknown()


@plot()
def polar_line() -> Expected:
    _, ax = plt.subplots(subplot_kw={"projection": "polar"})
    ax.plot(LINE, LINE)
    return unknown()


@plot()
def polar_bars() -> Expected:
    ax = plt.subplot(projection="polar")
    ax.bar([0, 1, 2], [3, 1, 2], width=0.8)
    return unknown()


@plot()
def polar_points() -> Expected:
    ax = plt.subplot(projection="polar")
    ax.scatter(LINE, LINE)
    return unknown()


@plot()
def map_projection() -> Expected:
    plt.subplot(projection="mollweide").plot([0, 1], [0, 0.5])
    return unknown()


@plot()
def violins() -> Expected:
    plt.violinplot([[1, 2, 2, 3], [2, 4, 4, 6]], showmedians=True)
    return unknown()


@plot()
def events() -> Expected:
    plt.eventplot([[1, 2, 3], [2, 5]])
    return unknown()


@plot()
def level_lines() -> Expected:
    plt.hlines([1, 2], 0, [3, 4])
    plt.vlines([1, 2], 0, 3)
    return unknown()


@plot()
def spectrogram() -> Expected:
    plt.specgram(np.sin(np.arange(2000) / 5), Fs=100)
    return unknown()


@plot()
def circle_and_text() -> Expected:
    plt.gca().add_patch(Circle((0.5, 0.5), 0.3))
    plt.text(0.5, 0.5, "middle")
    return unknown()


@plot()
def table() -> Expected:
    plt.axis("off")
    plt.table([["1", "2"], ["3", "4"]], colLabels=["a", "b"], loc="center")
    return unknown()


@plot()
def text_alone() -> Expected:
    plt.figtext(0.5, 0.5, "Hello")
    return {"type": "unknown", "title": "Hello", "elements": []}
