"""Plots of seaborn."""

import numpy as np
import pandas as pd
import seaborn as sns
import seaborn.objects as so

from .contract import SOMETHING
from .expected import Expected, bar, bars, bins, box, boxes, composite, line, points, scatter, unknown
from .plot import plot

NEW = sns.__version__ >= "0.13"
UNNAMED = "_container0" if NEW else "_container1"  # after one that was made to look at it

QUARTERS = np.random.default_rng(9).integers
"""Sums of quarters are exact, in whatever order they are added."""
TIPS = pd.DataFrame(
    {
        "bill": QUARTERS(20, 200, 48) / 4,
        "tip": QUARTERS(4, 36, 48) / 4,
        "day": np.tile(["Thu", "Fri", "Sat", "Sun"], 12),
        "time": np.repeat(["Lunch", "Dinner"], 24),
        "size": np.arange(48) % 5 + 1,
    }
)
DAYS = ["Thu", "Fri", "Sat", "Sun"]
TIMES = ["Lunch", "Dinner"]
ON_DAYS = {"x_label": "day", "x_scale": "categorical"}


def tips(**chosen: str) -> pd.DataFrame:
    """Return the rows with these values."""
    rows = TIPS
    for name, value in chosen.items():
        rows = rows[rows[name] == value]
    return rows


@plot()
def line_of_means() -> Expected:
    sns.lineplot(data=TIPS, x="size", y="tip", errorbar=None)
    means = TIPS.groupby("size")["tip"].mean()
    return line(points("_child0", means.index, means), x_label="size", y_label="tip")


@plot()
def lines_by_hue_with_bands() -> Expected:
    sns.lineplot(data=TIPS, x="size", y="tip", hue="time", errorbar="sd")
    means = [tips(time=time).groupby("size")["tip"].mean() for time in TIMES]
    found = [points(time, mean.index, mean) for time, mean in zip(TIMES, means, strict=True)]
    return line(*found, x_label="size", y_label="tip")


@plot()
def points_of_a_table() -> Expected:
    sns.set_theme()
    sns.scatterplot(data=TIPS, x="bill", y="tip")
    sns.reset_orig()
    return scatter(points("_child0", TIPS["bill"], TIPS["tip"]), x_label="bill", y_label="tip")


@plot()
def points_by_hue() -> Expected:
    sns.scatterplot(data=TIPS, x="bill", y="tip", hue="time")
    found = [points(time, tips(time=time)["bill"], tips(time=time)["tip"]) for time in TIMES]
    return scatter(*found, x_label="bill", y_label="tip")


@plot()
def points_by_hue_size_and_style() -> Expected:
    sns.scatterplot(data=TIPS, x="bill", y="tip", hue="time", size="size", style="day")
    found = [points(time, tips(time=time)["bill"], tips(time=time)["tip"]) for time in TIMES]
    return scatter(*found, x_label="bill", y_label="tip")


@plot()
def bars_of_means() -> Expected:
    sns.barplot(data=TIPS, x="day", y="tip", errorbar="sd")
    means = TIPS.groupby("day")["tip"].mean()[DAYS]
    return bar(bars(DAYS, means), y_label="tip", **ON_DAYS)


@plot()
def bars_by_hue() -> Expected:
    sns.barplot(data=TIPS, x="day", y="tip", hue="time", errorbar=None)
    groups = []
    for n, time in enumerate(TIMES):
        means = tips(time=time).groupby("day")["tip"].mean()[DAYS]
        groups.append(bars(DAYS, means, time, at=np.arange(4) + 0.4 * (n - 0.5), width=0.4))
    return bar(*groups, y_label="tip", **ON_DAYS)


@plot()
def horizontal_bars_of_means() -> Expected:
    sns.barplot(data=TIPS, x="tip", y="day", estimator="median", errorbar=None)
    medians = TIPS.groupby("day")["tip"].median()[DAYS]
    return bar(bars(DAYS, medians, horizontal=True), x_label="tip", y_label="day", y_scale="categorical")


@plot()
def counts() -> Expected:
    sns.countplot(data=TIPS[3:], x="day", order=DAYS)
    return bar(bars(DAYS, [11, 11, 11, 12]), y_label="count", **ON_DAYS)


@plot()
def counts_by_hue() -> Expected:
    sns.countplot(data=TIPS[3:], x="day", hue="time", order=DAYS)
    numbers = [[5, 5, 5, 6], [6, 6, 6, 6]]
    places = [np.arange(4) + 0.4 * (n - 0.5) for n in range(2)]
    groups = [bars(DAYS, numbers[n], time, at=places[n], width=0.4) for n, time in enumerate(TIMES)]
    return bar(*groups, y_label="count", **ON_DAYS)


@plot()
def boxes_by_day() -> Expected:
    sns.boxplot(data=TIPS, x="day", y="tip")
    return boxes(*(box(day, tips(day=day)["tip"]) for day in DAYS), y_label="tip", **ON_DAYS)


@plot()
def boxes_by_day_and_hue() -> Expected:
    sns.boxplot(data=TIPS, x="day", y="tip", hue="time")
    found = [box(day, tips(day=day, time=time)["tip"], group=time) for time in TIMES for day in DAYS]
    if not NEW:  # day by day
        found = [found[place + n] for place in range(4) for n in (0, 4)]
    return boxes(*found, y_label="tip", **ON_DAYS)


@plot()
def horizontal_boxes_of_a_table() -> Expected:
    sns.boxplot(data=TIPS[["bill", "tip"]], orient="h", whis=3)
    found = [box(name, TIPS[name], whisker=3, horizontal=True) for name in ("bill", "tip")]
    return boxes(*found, y_scale="categorical")


@plot()
def histogram_with_bins() -> Expected:
    sns.histplot(data=TIPS, x="bill", bins=7)
    return bar(bins(*np.histogram(TIPS["bill"], 7), UNNAMED), x_label="bill", y_label="Count")


@plot()
def stacked_histogram_by_hue() -> Expected:
    edges = np.linspace(0, 50, 6)
    sns.histplot(data=TIPS, x="bill", hue="time", multiple="stack", bins=edges)
    lunch, dinner = (np.histogram(tips(time=time)["bill"], edges)[0] for time in TIMES)
    # Drawn from the last one upwards.
    groups = [bins(dinner, edges, "Dinner"), bins(lunch, edges, "Lunch", base=dinner)]
    return bar(*groups, x_label="bill", y_label="Count")


@plot()
def histogram_with_its_density() -> Expected:
    sns.histplot(data=TIPS, x="bill", kde=True, bins=5)
    histogram = bar(bins(*np.histogram(TIPS["bill"], 5), UNNAMED), x_label="bill", y_label="Count")
    return composite(histogram, curve(x_label="bill", y_label="Count"))


def curve(label: str = "_child5", **fields: str) -> Expected:
    """Return a line of which only the label is known: seaborn computes the points."""
    return line({"label": label, "points": SOMETHING}, **fields)


@plot()
def densities() -> Expected:
    sns.kdeplot(data=TIPS, x="bill", hue="time")
    elements = [{"label": time, "points": SOMETHING} for time in reversed(TIMES)]
    return line(*elements, x_label="bill", y_label="Density")


@plot()
def cumulated_shares() -> Expected:
    sns.ecdfplot(data=TIPS, x="bill")
    x = [-np.inf, *sorted(TIPS["bill"])]
    shares = np.arange(49) / 48
    return line(points("_child0", x[1:], shares[1:]), x_label="bill", y_label="Proportion")


@plot()
def strips() -> Expected:
    sns.stripplot(data=TIPS, x="day", y="tip", jitter=False)
    found = [points(f"_child{n}", [n] * 12, tips(day=day)["tip"]) for n, day in enumerate(DAYS)]
    return scatter(*found, y_label="tip", **ON_DAYS)


@plot(seaborn="0.13")
def means_as_points() -> Expected:
    sns.pointplot(data=TIPS, x="day", y="tip", errorbar=None)
    means = TIPS.groupby("day")["tip"].mean()[DAYS]
    return line(points("_child0", range(4), means), y_label="tip", **ON_DAYS)


@plot(seaborn="0.13")
def means_with_capped_errors() -> Expected:
    sns.pointplot(data=TIPS, x="day", y="tip", errorbar="sd", capsize=0.2)
    means = TIPS.groupby("day")["tip"].mean()[DAYS]
    return line(points("_child0", range(4), means), y_label="tip", **ON_DAYS)


@plot()
def points_of_objects() -> Expected:
    so.Plot(TIPS, x="bill", y="tip").add(so.Dot()).show()
    return scatter(points("_child0", TIPS["bill"], TIPS["tip"]), x_label="bill", y_label="tip")


@plot()
def bars_of_objects() -> Expected:
    so.Plot(TIPS, x="day", y="tip").add(so.Bar(), so.Agg()).show()
    means = TIPS.groupby("day")["tip"].mean()[DAYS]
    return bar(bars(DAYS, means), y_label="tip", **ON_DAYS)


@plot()
def regression() -> Expected:
    sns.regplot(data=TIPS, x="bill", y="tip", ci=None)
    labels = {"x_label": "bill", "y_label": "tip"}
    trend = line({"label": "_child1", "points": SOMETHING}, **labels)
    return composite(trend, scatter(points("_child0", TIPS["bill"], TIPS["tip"]), **labels))


@plot()
def heat_map() -> Expected:
    table = TIPS.pivot_table(index="time", columns="day", values="tip", aggfunc="mean")
    sns.heatmap(table, annot=True, fmt=".1f")
    names = {"x_tick_labels": list(table.columns), "y_tick_labels": list(table.index)}
    return unknown(x_label="day", y_label="time", x_scale="categorical", y_scale="categorical", **names)


@plot()
def violins_by_day() -> Expected:
    sns.violinplot(data=TIPS, x="day", y="tip")
    return unknown(y_label="tip", **ON_DAYS)


@plot()
def pairs() -> Expected:
    sns.pairplot(TIPS[["bill", "tip"]], diag_kws={"bins": 6})
    bill, tip = TIPS["bill"], TIPS["tip"]
    return composite(
        scatter(points("_child0", tip, bill), x_label="tip", y_label="bill"),
        scatter(points("_child0", bill, tip), x_label="bill", y_label="tip"),
        bar(bins(*np.histogram(bill, 6), UNNAMED), x_label="bill", y_label="Count"),
        bar(bins(*np.histogram(tip, 6), UNNAMED), x_label="tip", y_label="Count"),
    )


@plot()
def joint() -> Expected:
    sns.jointplot(data=TIPS, x="bill", y="tip", marginal_kws={"bins": 4})
    return composite(
        scatter(points("_child0", TIPS["bill"], TIPS["tip"]), x_label="bill", y_label="tip"),
        bar(bins(*np.histogram(TIPS["bill"], 4)), x_label="bill", y_label="Count"),
        bar(bins(*np.histogram(TIPS["tip"], 4), horizontal=True), x_label="Count", y_label="tip"),
    )


@plot()
def facets_of_points() -> Expected:
    sns.relplot(data=TIPS, x="bill", y="tip", col="time")
    rows = [tips(time=time) for time in TIMES]
    titles = [{"title": f"time = {time}", "x_label": "bill"} for time in TIMES]
    found = [scatter(points("_child0", rows[n]["bill"], rows[n]["tip"]), **titles[n]) for n in range(2)]
    return composite(found[0] | {"y_label": "tip"}, found[1] | {"y_label": "" if NEW else "tip"})


@plot()
def facets_of_bars() -> Expected:
    sns.catplot(data=TIPS, kind="bar", x="day", y="tip", row="time", errorbar=None)
    means = [tips(time=time).groupby("day")["tip"].mean()[DAYS] for time in TIMES]
    common = {"x_scale": "categorical", "y_label": "tip"}
    found = [bar(bars(DAYS, means[n]), title=f"time = {time}", **common) for n, time in enumerate(TIMES)]
    return composite(found[0], found[1] | {"x_label": "day"})


@plot()
def one_facet() -> Expected:
    sns.displot(TIPS, x="tip", bins=5)
    return bar(bins(*np.histogram(TIPS["tip"], 5)), x_label="tip", y_label="Count")
