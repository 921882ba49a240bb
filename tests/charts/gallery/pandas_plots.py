"""`plot` of pandas."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from .contract import SOMETHING
from .expected import (
    Expected,
    bar,
    bars,
    bins,
    box,
    boxes,
    composite,
    line,
    pie,
    points,
    scatter,
    seconds,
    unknown,
    wedges,
)
from .plot import plot

NEW = pd.__version__ >= "3"

DAYS = pd.date_range("2024-01-01", periods=60, freq="D")
WALKS = pd.DataFrame(np.random.default_rng(8).normal(size=(60, 3)).cumsum(axis=0), index=DAYS, columns=list("ABC"))
SOLD = pd.DataFrame({"speed": [0.1, 17.5, 40], "lifespan": [2, 8, 70]}, index=["snail", "pig", "elephant"])
PLAIN = pd.DataFrame({"a": [1, 3, 2, 5], "b": [4.5, 1, 2, 0]})


def starts(index: pd.DatetimeIndex | pd.PeriodIndex) -> list[float]:
    moments = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
    return [seconds(moment.to_pydatetime()) for moment in moments]


@plot()
def series() -> Expected:
    pd.Series([3, 1, 2], name="counts").plot(title="A series")
    return line(points("counts", range(3), [3, 1, 2]), title="A series")


@plot()
def frame() -> Expected:
    PLAIN.plot(xlabel="step", ylabel="value", grid=True)
    return line(*(points(name, range(4), PLAIN[name]) for name in "ab"), x_label="step", y_label="value")


@plot()
def frame_by_columns() -> Expected:
    PLAIN.sort_values("a").plot(x="a", y="b", style="o-")
    ordered = PLAIN.sort_values("a")
    return line(points("b", ordered["a"], ordered["b"]), x_label="a")


@plot()
def frame_with_missing_values() -> Expected:
    pd.DataFrame({"a": [1, None, 3], "b": [None, 2, None]}).plot(marker="o")
    return line(points("a", [0, 2], [1, 3]), points("b", [1], [2]))


@plot()
def time_series() -> Expected:
    WALKS.plot()
    return line(*(points(name, starts(DAYS), WALKS[name]) for name in "ABC"), x_scale="datetime")


@plot()
def time_series_by_month() -> Expected:
    months = pd.date_range("2023-01-01", periods=14, freq="MS")
    values = pd.Series(np.arange(14.0), index=months, name="by month")
    values.plot(legend=True)
    return line(points("by month", starts(months), values), x_scale="datetime")


@plot()
def time_series_by_hour() -> Expected:
    hours = pd.date_range("2024-02-28 20:00", periods=30, freq="h" if NEW else "H")
    values = pd.Series(np.arange(30.0), index=hours)
    values.plot()
    return line(points("_child0", starts(hours), values), x_scale="datetime")


@plot()
def periods() -> Expected:
    quarters = pd.period_range("2020Q1", periods=8, freq="Q")
    values = pd.Series(range(8), index=quarters, name="q")
    values.plot(legend=True)
    return line(points("q", starts(quarters), values), x_scale="datetime")


@plot()
def durations() -> Expected:
    values = pd.Series(range(3), index=pd.to_timedelta([1, 2, 3], unit="h"), name="lasting")
    values.plot(legend=True)
    return line({"label": "lasting", "points": SOMETHING})


@plot()
def irregular_time_series() -> Expected:
    days = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-02-29", "2024-07-09"])
    values = pd.Series([1, 4, 2, 8], index=days, name="irregular")
    values.plot(legend=True)
    return line(points("irregular", starts(days), values), x_scale="datetime")


@plot()
def time_series_in_matplotlib() -> Expected:
    plt.plot(WALKS.index, WALKS["A"], label="A")
    return line(points("A", starts(DAYS), WALKS["A"]), x_scale="datetime")


@plot()
def secondary_y() -> Expected:
    PLAIN.plot(secondary_y=["b"])
    return composite(line(points("a", range(4), PLAIN["a"])), line(points("b (right)", range(4), PLAIN["b"])))


@plot()
def frame_in_subplots() -> Expected:
    PLAIN.plot(subplots=True, title="Both")
    return composite(*(line(points(name, range(4), PLAIN[name])) for name in "ab"), title="Both")


@plot()
def frame_on_log_axes() -> Expected:
    (PLAIN[["a"]] * 100).plot(logy=True)
    return line(points("a", range(4), PLAIN["a"] * 100), y_scale="log")


@plot()
def frame_of_bars() -> Expected:
    SOLD.plot.bar(rot=0, title="Animals")
    groups = [bars(SOLD.index, SOLD[name], name, at=place, width=0.25) for name, place in places(0.25)]
    return bar(*groups, title="Animals", x_scale="categorical")


def places(width: float) -> list[tuple[str, list[float]]]:
    """Return where the bars of each column stand."""
    return [(name, [n + (column - 0.5) * width for n in range(3)]) for column, name in enumerate(SOLD.columns)]


@plot()
def stacked_frame() -> Expected:
    SOLD.plot.bar(stacked=True)
    below = bars(SOLD.index, SOLD["speed"], "speed", width=0.5)
    above = bars(SOLD.index, SOLD["lifespan"], "lifespan", width=0.5, base=SOLD["speed"])
    return bar(below, above, x_scale="categorical")


@plot()
def frame_of_horizontal_bars() -> Expected:
    SOLD.plot.barh()
    options = {"width": 0.25, "horizontal": True}
    groups = [bars(SOLD.index, SOLD[name], name, at=place, **options) for name, place in places(0.25)]
    return bar(*groups, y_scale="categorical")


@plot()
def counted_values() -> Expected:
    pd.Series(["x", "y", "x", "z", "x", "y"], name="letter").value_counts().plot(kind="bar")
    group, label = ("count", "letter") if NEW else ("letter", "")
    return bar(bars("xyz", [3, 2, 1], group, width=0.5), x_label=label, x_scale="categorical")


@plot()
def bars_by_date() -> Expected:
    daily = pd.Series([1, 2, 3], index=pd.date_range("2024-01-01", periods=3, freq="D"), name="n")
    daily.plot.bar()
    if NEW:  # as periods
        names = [day.isoformat() for day in daily.index]
        return bar(bars(names, [1, 2, 3], "n", at=starts(daily.index), width=0.5), x_scale="datetime")
    return bar(bars(map(str, daily.index), [1, 2, 3], "n", width=0.5), x_scale="categorical")


@plot()
def histograms_of_columns() -> Expected:
    WALKS.plot.hist(bins=12, alpha=0.5)
    values = WALKS.to_numpy()
    edges = np.histogram_bin_edges(values, 12)
    found = [bins(np.histogram(WALKS[name], edges)[0], edges, name) for name in "ABC"]
    return bar(*found, y_label="Frequency")


@plot()
def histogram_of_each_column() -> Expected:
    WALKS.hist(bins=8)
    parts = [bar(bins(*np.histogram(WALKS[name], 8)), title=name) for name in "ABC"]
    return composite(*parts)


@plot()
def boxes_of_columns() -> Expected:
    WALKS.plot.box()
    return boxes(*(box(name, WALKS[name]) for name in "ABC"), x_scale="categorical")


@plot()
def boxes_by_group() -> Expected:
    table = pd.DataFrame({"value": [1, 2, 3, 10, 20, 30, 99], "kind": list("uuuvvvv")})
    table.boxplot("value", by="kind")
    found = [box("u", [1, 2, 3]), box("v", [10, 20, 30, 99])]
    return boxes(*found, title="value", x_label="kind", x_scale="categorical")


@plot()
def horizontal_boxes_of_columns() -> Expected:
    WALKS.plot.box(vert=False)
    return boxes(*(box(name, WALKS[name], horizontal=True) for name in "ABC"), y_scale="categorical")


@plot()
def scattered_columns() -> Expected:
    PLAIN.plot.scatter(x="a", y="b", c="b", colormap="viridis")
    return scatter(points("_child0", PLAIN["a"], PLAIN["b"]), x_label="a", y_label="b")


@plot()
def pie_of_a_series() -> Expected:
    SOLD["lifespan"].plot.pie(autopct="%.0f")
    return pie(wedges(SOLD.index, SOLD["lifespan"]), y_label="" if NEW else "lifespan")


@plot()
def pies_of_columns() -> Expected:
    SOLD.plot.pie(subplots=True, legend=False)
    return composite(*(pie(wedges(SOLD.index, SOLD[name]), y_label="" if NEW else name) for name in SOLD.columns))


@plot()
def areas() -> Expected:
    PLAIN.plot.area()
    return line(points("a", range(4), PLAIN["a"]), points("b", range(4), PLAIN["a"] + PLAIN["b"]))


@plot()
def areas_one_over_the_other() -> Expected:
    PLAIN.plot.area(stacked=False)
    return line(*(points(name, range(4), PLAIN[name]) for name in "ab"))


@plot()
def frame_of_hexagons() -> Expected:
    PLAIN.plot.hexbin(x="a", y="b", gridsize=5)
    return unknown(x_label="a", y_label="b")


@plot()
def all_against_all() -> Expected:
    pd.plotting.scatter_matrix(PLAIN, diagonal="hist")
    counts = [np.histogram(PLAIN[name], 10) for name in "ab"]
    return composite(
        bar(bins(*counts[0]), x_label="a", y_label="a"),
        scatter(points("_child0", PLAIN["b"], PLAIN["a"]), x_label="b", y_label="a"),
        scatter(points("_child0", PLAIN["a"], PLAIN["b"]), x_label="a", y_label="b"),
        bar(bins(*counts[1]), x_label="b", y_label="b"),
    )
