"""Read one axis of a drawn plot: its scale, its ticks, and what its numbers stand for."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

from .values import as_number, finite, plain, text

DAY = 86_400
"""Seconds."""


class AxisReader:
    """The x or y axis of a matplotlib Axes.

    Numbers of dates become seconds since 1970 (UTC); all others stay as plotted. Categories are plotted at 0, 1, 2 ...
    """

    def __init__(self, axis: Any) -> None:
        self.axis = axis
        self.label = text(axis.get_label_text())
        self.periods = self._period_frequency()
        self.is_dates = self.periods is not None or self._has_dates()
        self.ticks, self.tick_labels = self._read_ticks()
        self.scale = self._scale()

    def numbers(self, plotted: Any) -> Any:
        """Return plotted numbers (array) as reported numbers (array of float)."""
        import numpy as np  # noqa: PLC0415 -- matplotlib has loaded it

        values: Any = np.ma.filled(np.ma.asarray(plotted, dtype=float), np.nan)
        if not self.is_dates:
            return values
        if self.periods is not None:
            return self._period_starts(values)
        dates: Any = sys.modules["matplotlib.dates"]

        epoch = np.datetime64(dates.get_epoch()).astype("datetime64[s]").astype("int64")
        # A date is a float of days: microseconds are what it can tell apart.
        return np.round(values * DAY, 6) + epoch

    def length(self, plotted: float) -> float:
        """Return a plotted distance as reported: seconds between dates."""
        return round(plotted * DAY, 6) if self.is_dates and self.periods is None else plotted

    def iso(self, seconds: float) -> str:
        """Return the date of reported seconds as ISO 8601, in the axis' time zone if it has one."""
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)  # noqa: DTZ001 -- naive dates stay so
        zone = self._time_zone()
        if zone is None:
            return moment.isoformat()
        return moment.replace(tzinfo=dt.timezone.utc).astimezone(zone).isoformat()

    def _time_zone(self) -> Any:
        """Return the zone in which the axis shows its dates, or else that of the dates themselves."""
        formatter, locator = self.axis.get_major_formatter(), self.axis.get_major_locator()
        zones = [getattr(formatter, "tz", None), getattr(formatter, "_tz", None), getattr(locator, "tz", None)]
        zones.append(self.axis.get_units())
        return next((zone for zone in zones if isinstance(zone, dt.tzinfo) and str(zone) != "UTC"), None)

    def name(self, position: float) -> str:
        """Return what a bar or box at a plotted position is called: its tick's text, or the number or date itself."""
        reported = finite(self.numbers([position])[0])
        if reported is None:
            return ""
        if self.is_dates:
            return self.iso(reported)
        if self.has_names:
            nearest = min(range(len(self.ticks)), key=lambda index: abs(self.ticks[index] - position))
            if abs(self.ticks[nearest] - position) <= self._reach:
                return self.tick_labels[nearest]
        return f"{position:.10g}"

    @property
    def has_names(self) -> bool:
        """Tell whether the tick labels are something else than the ticks' numbers."""
        pairs = zip(self.ticks, self.tick_labels)
        return any(label and as_number(label) != tick and not _rounds(tick, label) for tick, label in pairs)

    @property
    def _reach(self) -> float:
        """How far from its tick a bar can be: half way to the next tick."""
        ticks = sorted(self.ticks)
        gaps = [after - before for before, after in zip(ticks, ticks[1:]) if after > before]
        return min(gaps) / 2 + 1e-9 if gaps else 0.5

    def _read_ticks(self) -> tuple[list[float], list[str]]:
        """Return the major ticks in view, and their labels; ISO dates on an axis of dates."""
        places = list(self.axis.get_majorticklocs())
        labels = list(self.axis.get_major_formatter().format_ticks(places)) if places else []
        labels += [""] * (len(places) - len(labels))
        low, high = sorted(float(limit) for limit in self.axis.get_view_interval())
        slack = (high - low) * 1e-10
        seen = [
            (place, plain(label))
            for place, label in zip(map(finite, places), labels)
            if place is not None and low - slack <= place <= high + slack
        ]
        ticks = [place for place, _ in seen]
        if self.is_dates and ticks:
            ticks = self.numbers(ticks).tolist()
            return ticks, [self.iso(tick) for tick in ticks]
        return ticks, [label for _, label in seen]

    def _scale(self) -> str:
        if self.is_dates:
            return "datetime"
        locator = type(self.axis.get_major_locator()).__name__
        # Axes that share this axis have its locator, not its converter.
        if locator == "StrCategoryLocator" or type(self._converter()).__name__ == "StrCategoryConverter":
            return "categorical"
        if (
            locator == "FixedLocator"
            and self.has_names
            and self.ticks == [self.ticks[0] + index for index in range(len(self.ticks))]
        ):
            return "categorical"
        name = str(self.axis.get_scale())
        return "linear" if name == "function" and self._is_straight() else name

    def _is_straight(self) -> bool:
        """Tell whether a scale by a function is that of `linear`, as seaborn's objects make it."""
        low, high = (float(limit) for limit in self.axis.get_view_interval())
        start, middle, end = self.axis.get_transform().transform([low, (low + high) / 2, high])
        return bool(abs((start + end) / 2 - middle) <= 1e-9 * abs(end - start))

    def _converter(self) -> Any:
        get = getattr(self.axis, "get_converter", None)  # matplotlib 3.10
        return get() if get is not None else self.axis.converter

    def _has_dates(self) -> bool:
        dates: Any = sys.modules["matplotlib.dates"]

        converter = self._converter()
        return (
            isinstance(converter, dates.DateConverter)
            or type(converter).__name__ == "_SwitchableDateConverter"
            or isinstance(self.axis.get_major_locator(), dates.DateLocator)
            or isinstance(self.axis.get_major_formatter(), (dates.DateFormatter, dates.AutoDateFormatter))
        )

    def _period_frequency(self) -> Any:
        """Return the frequency with which pandas counts periods on this axis (days, months ... since 1970), or None."""
        if "pandas" not in sys.modules or self.axis.axis_name != "x":
            return None
        if type(self.axis.get_major_formatter()).__name__ == "TimeSeries_TimedeltaFormatter":
            return None  # durations
        frequency = getattr(self.axis, "freq", None)
        return frequency if frequency is not None else getattr(self.axis.axes, "freq", None)

    def _period_starts(self, values: Any) -> Any:
        """Return the first seconds of pandas' periods."""
        import numpy as np  # noqa: PLC0415 -- matplotlib has loaded it

        pandas = sys.modules["pandas"]
        known = np.isfinite(values)
        ordinals = np.round(values[known]).astype("int64")
        make = getattr(pandas.PeriodIndex, "from_ordinals", None)  # pandas 2.2
        make = make or (lambda ordinals, freq: pandas.PeriodIndex(ordinal=ordinals, freq=freq))
        starts = make(ordinals, freq=self.periods).to_timestamp().to_numpy().astype("datetime64[us]").astype("int64")
        seconds = np.full(values.shape, np.nan)
        seconds[known] = starts / 1e6
        return seconds


def _rounds(tick: float, label: str) -> bool:
    """Tell whether a label is its tick's number in another form: rounded, with an offset or a power."""
    number = as_number(label.split("^", maxsplit=1)[0].replace("%", ""))
    return number is not None and (number == 10 or abs(number - tick) <= 0.5 * abs(tick))
