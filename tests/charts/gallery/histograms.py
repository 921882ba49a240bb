"""Histograms, whose bars are their bins."""

import datetime as dt
from itertools import pairwise

import numpy as np
from matplotlib import pyplot as plt

from .expected import Expected, bar, bars, bins, seconds
from .plot import plot

DATA = np.random.default_rng(3).normal(100, 15, size=437)
SEVERAL = [DATA, DATA[:200] + 5, DATA[:100] * 1.1]


@plot()
def histogram() -> Expected:
    plt.hist(DATA)
    plt.title("Counts")
    return bar(bins(*np.histogram(DATA, 10)), title="Counts")


@plot()
def histogram_of_density() -> Expected:
    plt.hist(DATA, bins=40, density=True, label="density")
    plt.axvline(DATA.mean(), color="red")
    plt.legend()
    return bar(bins(*np.histogram(DATA, 40, density=True), "density"))


@plot()
def histogram_of_weights() -> Expected:
    weights = np.full(len(DATA), 1 / len(DATA))
    plt.hist(DATA, bins=[50, 80, 90, 100, 150], weights=weights)
    return bar(bins(*np.histogram(DATA, [50, 80, 90, 100, 150], weights=weights)))


@plot()
def logarithmic_histogram() -> Expected:
    plt.hist(DATA, bins=20, log=True)
    return bar(bins(*np.histogram(DATA, 20)), y_scale="log")


@plot()
def histogram_in_logarithmic_bins() -> Expected:
    data = np.exp(DATA / 20)
    edges = np.logspace(0, 4, 9)
    plt.hist(data, bins=edges)
    plt.xscale("log")
    return bar(bins(*np.histogram(data, edges)), x_scale="log")


@plot()
def cumulative_histogram() -> Expected:
    counts, edges = np.histogram(DATA, 15)
    plt.hist(DATA, bins=15, cumulative=True)
    return bar(bins(counts.cumsum(), edges))


@plot()
def overlaid_histograms() -> Expected:
    edges = np.linspace(40, 180, 29)
    for name, data in zip("abc", SEVERAL, strict=True):
        plt.hist(data, edges, alpha=0.5, label=name)
    plt.legend()
    return bar(*(bins(*np.histogram(data, edges), name) for name, data in zip("abc", SEVERAL, strict=True)))


@plot()
def stacked_histogram() -> Expected:
    edges = np.linspace(40, 180, 15)
    plt.hist(SEVERAL, edges, stacked=True, label=["a", "b", "c"])
    plt.legend()
    counts = np.array([np.histogram(data, edges)[0] for data in SEVERAL])
    below = counts.cumsum(axis=0) - counts
    return bar(*(bins(counts[n], edges, name, base=below[n]) for n, name in enumerate("abc")))


@plot()
def histogram_side_by_side() -> Expected:
    edges = np.array([40.0, 80, 120, 180])
    plt.hist(SEVERAL, edges, label=["a", "b", "c"])
    plt.legend()
    found = []
    for n, name in enumerate("abc"):
        counts = np.histogram(SEVERAL[n], edges)[0]
        widths = 0.8 * np.diff(edges) / 3
        centers = edges[:-1] + 0.1 * np.diff(edges) + widths * (n + 0.5)
        for count, center, width in zip(counts, centers, widths, strict=True):
            found.append(bars([f"{center:.10g}"], [count], name, at=[center], width=width))
    return bar(*found)


@plot()
def outlined_histogram() -> Expected:
    plt.hist(DATA, bins=12, histtype="step", label="outline")
    return bar(bins(*np.histogram(DATA, 12), "outline"))


@plot()
def outlined_histograms() -> Expected:
    edges = np.linspace(40, 180, 15)
    plt.hist(SEVERAL, edges, histtype="step", label=["a", "b", "c"])
    return bar(*(bins(*np.histogram(data, edges), name) for name, data in zip("abc", SEVERAL, strict=True)))


@plot()
def stacked_outlined_histograms() -> Expected:
    edges = np.linspace(40, 180, 15)
    plt.hist(SEVERAL, edges, histtype="stepfilled", stacked=True, label=["a", "b", "c"])
    counts = np.array([np.histogram(data, edges)[0] for data in SEVERAL])
    below = counts.cumsum(axis=0) - counts
    return bar(*(bins(counts[n], edges, name, base=below[n]) for n, name in enumerate("abc")))


@plot()
def filled_density() -> Expected:
    plt.hist(DATA, bins=12, histtype="stepfilled", density=True, alpha=0.5)
    return bar(bins(*np.histogram(DATA, 12, density=True), "_child0"))


@plot()
def horizontal_histogram() -> Expected:
    plt.hist(DATA, bins=8, orientation="horizontal")
    return bar(bins(*np.histogram(DATA, 8), horizontal=True))


@plot()
def horizontal_outlined_histogram() -> Expected:
    plt.hist(DATA, bins=8, orientation="horizontal", histtype="step")
    return bar(bins(*np.histogram(DATA, 8), "_child0", horizontal=True))


@plot()
def histogram_of_dates() -> Expected:
    days = [dt.datetime(2024, 1, 1) + dt.timedelta(days=n * n % 30) for n in range(40)]
    edges = [dt.datetime(2024, 1, day) for day in (1, 11, 21, 31)]
    plt.hist(days, bins=edges)
    counts = [sum(start <= day < end for day in days) for start, end in pairwise(edges)]
    centers = [seconds(start) + 5 * 86400 for start in edges[:3]]
    names = [(start + dt.timedelta(days=5)).isoformat() for start in edges[:3]]
    return bar(bars(names, counts, at=centers, width=10 * 86400), x_scale="datetime")


@plot()
def histogram_of_strings() -> Expected:
    plt.hist(["b", "a", "b"], bins=[-0.5, 0.5, 1.5])
    return bar(bars(["b", "a"], [2, 1], at=[0, 1], width=1), x_scale="categorical")


@plot()
def empty_bins() -> Expected:
    plt.hist([1, 1, 9], bins=4, range=(0, 10))
    return bar(bins([2, 0, 0, 1], [0, 2.5, 5, 7.5, 10]))


@plot()
def histogram_by_position_of_arguments() -> Expected:
    plt.hist([1, 2, 2], [1, 2, 3], None, False, None, False, 5, "step", "mid", "horizontal")
    return bar(bins([1, 2], [1, 2, 3], "_child0", base=[5, 5], horizontal=True))
