"""Values that are no plain finite numbers."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
from matplotlib import dates as mdates
from matplotlib import pyplot as plt

from .expected import Expected, bar, bars, boxes, five_numbers, line, points, scatter, seconds
from .plot import plot

DAYS = [dt.datetime(2024, 1, day) for day in range(1, 8)]
"""Without a time zone, as most are."""
BERLIN = ZoneInfo("Europe/Berlin")


@plot()
def gaps_of_nan() -> Expected:
    plt.plot([0, 1, 2, 3, 4], [1, np.nan, np.inf, -np.inf, 2], label="gaps")
    return line(points("gaps", [0, 4], [1, 2]))


@plot()
def nothing_but_nan() -> Expected:
    plt.plot([np.nan, np.nan])
    plt.plot([], [])
    return chart_without_numbers()


def chart_without_numbers() -> Expected:
    return {**line(), "type": "unknown"}


@plot()
def masked_array() -> Expected:
    y = np.ma.masked_greater(np.arange(6.0), 3)
    plt.plot(np.arange(6), y, "o-", label="masked")
    return line(points("masked", range(4), range(4)))


@plot()
def masked_scatter() -> Expected:
    x = np.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0])
    plt.scatter(x, [1, 2, np.nan, 4], label="masked")
    return scatter(points("masked", [1, 4], [1, 4]))


@plot()
def strings() -> Expected:
    plt.plot(["cat", "dog", "cat", "bird"], [1, 2, 3, 4])
    ticks = {"x_ticks": [0, 1, 2], "x_tick_labels": ["cat", "dog", "bird"], "x_scale": "categorical"}
    return line(points("_child0", [0, 1, 0, 2], [1, 2, 3, 4]), **ticks)


@plot()
def strings_on_both_axes() -> Expected:
    plt.scatter(["a", "b", "c"], ["low", "high", "low"])
    ticks = {"x_tick_labels": ["a", "b", "c"], "y_tick_labels": ["low", "high"]}
    return scatter(points("_child0", [0, 1, 2], [0, 1, 0]), x_scale="categorical", y_scale="categorical", **ticks)


@plot()
def strings_of_digits() -> Expected:
    plt.bar(["2021", "2022", "2024"], [3, 1, 2])
    return bar(bars(["2021", "2022", "2024"], [3, 1, 2]), x_scale="categorical")


@plot()
def decimals() -> Expected:
    prices = [Decimal("19.99"), Decimal("21.5"), Decimal("18.25")]
    plt.plot([1, 2, 3], prices)
    return line(points("_child0", [1, 2, 3], prices))


@plot()
def decimal_bars() -> Expected:
    plt.bar(["a", "b"], [Decimal("1.1"), Decimal("2.2")])
    return bar(bars(["a", "b"], [1.1, 2.2]), x_scale="categorical")


@plot()
def fractions_and_bools() -> Expected:
    plt.plot([Fraction(1, 4), Fraction(1, 2)], [True, False])
    return line(points("_child0", [0.25, 0.5], [1, 0]))


@plot()
def large_integers() -> Expected:
    x = [2**53, 2**53 + 2, 2**60]
    plt.plot(x, [10**18, 0, -(10**18)])
    return line(points("_child0", x, [1e18, 0, -1e18]))


@plot()
def tiny_numbers() -> Expected:
    y = [1e-300, 0.1 + 0.2, 5e-324]
    plt.plot(y)
    return line(points("_child0", range(3), y))


@plot()
def small_types_of_numbers() -> Expected:
    x = np.arange(3, dtype=np.int8)
    plt.plot(x, np.array([0.1, 0.2, 0.3], dtype=np.float32))
    return line(points("_child0", range(3), np.array([0.1, 0.2, 0.3], dtype=np.float32)))


@plot()
def dates() -> Expected:
    plt.plot(DAYS, range(7), label="by day")
    plt.xticks(DAYS[::3])
    ticks = {"x_ticks": list(map(seconds, DAYS[::3])), "x_tick_labels": [day.isoformat() for day in DAYS[::3]]}
    return line(points("by day", map(seconds, DAYS), range(7)), x_scale="datetime", **ticks)


@plot()
def plain_dates_as_bars() -> Expected:
    days = [dt.date(2024, 2, 28), dt.date(2024, 2, 29), dt.date(2024, 3, 1)]
    plt.bar(days, [1, 2, 3])
    names = ["2024-02-28T00:00:00", "2024-02-29T00:00:00", "2024-03-01T00:00:00"]
    return bar(bars(names, [1, 2, 3], at=map(seconds, days), width=0.8 * 86400), x_scale="datetime")


@plot()
def numpy_dates() -> Expected:
    hours = np.arange("2024-03-01T00", "2024-03-01T06", dtype="datetime64[h]")
    plt.plot(hours, np.arange(6))
    plt.gca().xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
    x = hours.astype("datetime64[s]").astype("int64")
    return line(points("_child0", x, range(6)), x_scale="datetime")


@plot()
def microseconds() -> Expected:
    start = dt.datetime(2024, 5, 6, 7, 8, 9, 123456)
    moments = [start + dt.timedelta(microseconds=1500 * n) for n in range(4)]
    plt.plot(moments, range(4))
    return line(points("_child0", map(seconds, moments), range(4)), x_scale="datetime")


@plot()
def dates_in_a_time_zone() -> Expected:
    moments = [dt.datetime(2024, 7, 1, hour, tzinfo=BERLIN) for hour in (0, 6, 12)]
    plt.plot(moments, [1, 2, 3])
    plt.xticks(moments)
    ticks = {"x_ticks": list(map(seconds, moments)), "x_tick_labels": [moment.isoformat() for moment in moments]}
    return line(points("_child0", map(seconds, moments), [1, 2, 3]), x_scale="datetime", **ticks)


@plot()
def dates_before_1970_on_y() -> Expected:
    days = [dt.datetime(1850, 1, 1), dt.datetime(1969, 7, 20)]
    plt.scatter([1, 2], days)
    plt.gca().yaxis.set_major_formatter(mdates.ConciseDateFormatter(mdates.AutoDateLocator()))
    return scatter(points("_child0", [1, 2], map(seconds, days)), y_scale="datetime")


@plot()
def not_a_time() -> Expected:
    days = np.array(["2024-01-01", "NaT", "2024-01-03"], dtype="datetime64[D]")
    plt.plot(days, [1, 2, 3])
    known = [seconds(DAYS[0]), seconds(DAYS[2])]
    return line(points("_child0", known, [1, 3]), x_scale="datetime")


@plot()
def date_numbers() -> Expected:
    numbers = mdates.date2num(DAYS)
    plt.plot(numbers, range(7))
    plt.gca().xaxis_date()
    return line(points("_child0", map(seconds, DAYS), range(7)), x_scale="datetime")


@plot()
def durations_between_dates() -> Expected:
    starts, lengths = DAYS[:3], [dt.timedelta(days=2), dt.timedelta(hours=12), dt.timedelta(days=1)]
    plt.barh(["design", "build", "test"], lengths, left=starts)
    lasting = [length.total_seconds() for length in lengths]
    gantt = bars(["design", "build", "test"], lasting, base=map(seconds, starts), horizontal=True)
    return bar(gantt, x_scale="datetime", y_scale="categorical")


@plot()
def boxes_with_missing_numbers() -> Expected:
    plt.boxplot([[1, 2, 3, 4, 5], []])
    return boxes(five_numbers("1", [1, 2, 3, 4, 5]), five_numbers_of_nothing())


def five_numbers_of_nothing() -> dict[str, object]:
    return {"label": "2", "orientation": "vertical", "outliers": []}
