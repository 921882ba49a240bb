"""Find the series of data in an Axes: lines, scatters, bars, pies and boxes, each with the plotted numbers."""

from __future__ import annotations

from typing import Any

from .axis import AxisReader
from .values import Budget, finite, flat, number_text, rows_of, text

Element = dict[str, Any]
"""One element of a chart: a line, the points of a scatter, a bar, a wedge or a box."""

MARK_POINTS = 6
"""An error bar with caps, drawn as a line, has at most so many points."""


class Series:
    """The data of one Axes that was drawn."""

    def __init__(self, axes: Any, budget: Budget) -> None:
        self.axes = axes
        self.budget = budget
        self.x, self.y = AxisReader(axes.xaxis), AxisReader(axes.yaxis)
        self.legend = _legend(axes)
        self.labels, self.marks = _containers(axes)

    def elements(self) -> dict[str, list[Element]]:
        """Return the elements by the type of chart they make; types without elements are left out."""
        boxes = self.boxes()
        bars = self.bars()
        found = {
            "bar": bars,
            "box_and_whisker": boxes,
            "line": self.lines(bars, bool(boxes)),
            "scatter": self.scatters(),
            "pie": self.wedges(),
        }
        return {kind: elements for kind, elements in found.items() if elements}

    # Lines and points

    def lines(self, bars: list[Element], has_boxes: bool) -> list[Element]:
        """Return lines in the coordinates of the data, without those that only mark something (error bars, limits)."""
        drawn = [line for line in self.axes.lines if line.get_visible() and id(line) not in self.marks]
        drawn = [line for line in drawn if line.get_transform().contains_branch(self.axes.transData)]
        data = [(line, rows_of(line.get_xdata(orig=False), line.get_ydata(orig=False))) for line in drawn]
        data = [(line, rows) for line, rows in data if len(rows)]
        if self._has_fills() and not any(len(rows) > 2 for _, rows in data):
            return []
        series = [(line, rows) for line, rows in data if not self._is_mark(line, rows, bars)]
        if not series and not bars and not has_boxes:
            series = data
        return [self._points(self._name(line, line.get_color()), rows) for line, rows in series]

    def scatters(self) -> list[Element]:
        """Return the points of each `scatter`, by legend entry where their colours tell it."""
        drawn = []
        for collection in self.axes.collections:
            if type(collection).__name__ != "PathCollection" or not collection.get_visible():
                continue
            if not collection.get_offset_transform().contains_branch(self.axes.transData):
                continue  # a contour of matplotlib before 3.8
            offsets = collection.get_offsets()
            if len(offsets):
                drawn.append((collection, offsets))
        if self._has_fills() and all(len(offsets) == 1 for _, offsets in drawn):
            return []  # the medians of violins
        return [element for collection, offsets in drawn for element in self._split(collection, offsets)]

    def _split(self, collection: Any, offsets: Any) -> list[Element]:
        import numpy as np  # noqa: PLC0415 -- matplotlib has loaded it

        colors = collection.get_facecolor()
        label = self._name(collection, colors[0] if len(colors) == 1 else None)
        groups: dict[str, list[int]] = {label: []}
        if label.startswith("_") and len(colors) == len(offsets) and self.legend:
            names = [self.legend.get(_key(color)) for color in colors]
            if None not in names:
                groups = {}
                for index, name in enumerate(names):
                    groups.setdefault(str(name), []).append(index)
        if len(groups) == 1:
            return [self._points(name, rows_of(offsets[:, 0], offsets[:, 1])) for name in groups]
        picked = [(name, offsets[np.array(indices)]) for name, indices in groups.items()]
        return [self._points(name, rows_of(part[:, 0], part[:, 1])) for name, part in picked]

    def _points(self, label: str, rows: Any) -> Element:
        element: Element = {"label": label}
        self.budget.take(element, "points", rows_of(self.x.numbers(rows[:, 0]), self.y.numbers(rows[:, 1])), 2)
        return element

    def _is_mark(self, line: Any, rows: Any, bars: list[Element]) -> bool:
        """Tell whether an unnamed line marks something: a level, or a bar's error."""
        if not str(line.get_label()).startswith("_") or len(rows) > MARK_POINTS:
            return False
        low, high = rows.min(axis=0), rows.max(axis=0)
        if (len(rows) == 2 and (low == high).any()) or _is_error_bar(rows):
            return True
        for bar in bars:
            side, axis = (0, self.x) if bar["orientation"] == "vertical" else (1, self.y)
            start, end = axis.numbers([low[side], high[side]])
            reach = abs(bar["width"]) / 2
            if bar["position"] - reach <= start and end <= bar["position"] + reach:
                return True
        return False

    def _has_fills(self) -> bool:
        kinds = [type(found).__name__ for found in self.axes.collections]
        return any(kind.endswith(("PolyCollection", "PatchCollection")) for kind in kinds)

    # Bars

    def bars(self) -> list[Element]:
        """Return the bars of `bar`, `barh`, `hist` and `stairs`, group by group."""
        found = []
        for container in self.axes.containers:
            if type(container).__name__ != "BarContainer":
                continue
            patches = [patch for patch in container.patches if patch.axes is self.axes and patch.get_visible()]
            if not patches:
                continue
            group = self._name(container, patches[0].get_facecolor())
            vertical = getattr(container, "orientation", None) != "horizontal"
            extents = [
                (p.get_x(), p.get_width(), p.get_y(), p.get_height())
                if vertical
                else (p.get_y(), p.get_height(), p.get_x(), p.get_width())
                for p in patches
            ]
            found += self._bars(group, vertical, extents)
        for patch in self.axes.patches:
            if type(patch).__name__ == "StepPatch" and patch.get_visible():
                found += self._stairs(patch)
        for drawn, given in getattr(self.axes, "_toolbox_hists", []):
            found += self._outlined_histogram(drawn, given)
        for ranges, collection in getattr(self.axes, "_toolbox_broken_bars", []):
            if collection.axes is self.axes and collection.get_visible():
                found += self._broken_bars(ranges, collection)
        return found

    def _stairs(self, patch: Any) -> list[Element]:
        import numpy as np  # noqa: PLC0415 -- matplotlib has loaded it

        values, edges, baseline = patch.get_data()
        bases = np.broadcast_to(0.0 if baseline is None else baseline, len(values))
        extents = [
            (start, end - start, base, value - base) for value, start, end, base in zip(values, edges, edges[1:], bases)
        ]
        return self._bars(self._name(patch, patch.get_edgecolor()), patch.orientation == "vertical", extents)

    def _outlined_histogram(self, drawn: Any, given: dict[str, Any]) -> list[Element]:
        """Return the bins of a histogram of which each series is drawn as one outline."""
        import numpy as np  # noqa: PLC0415 -- matplotlib has loaded it

        counts, edges, patches = drawn
        is_one = not any(isinstance(patch, (list, tuple)) for patch in patches)
        below: Any = np.broadcast_to(0.0 if given["bottom"] is None else given["bottom"], len(edges) - 1)
        found = []
        for row, outline in zip([counts] if is_one else counts, [patches] if is_one else patches):
            # The counts of stacked series are those of the series below added.
            lengths, bases = (row - below, below) if given["stacked"] else (row, below)
            below = row if given["stacked"] else below
            if len(outline) and outline[0].axes is self.axes and outline[0].get_visible():
                group = self._name(outline[0], outline[0].get_edgecolor())
                extents = list(zip(edges, edges[1:] - edges[:-1], bases, lengths))
                found += self._bars(group, given["orientation"] != "horizontal", extents)
        return found

    def _broken_bars(self, ranges: Any, collection: Any) -> list[Element]:
        """Return the bars of one `broken_barh`, with the very lengths that were given where these are numbers."""
        colors = collection.get_facecolor()
        boxes = [path.get_extents() for path in collection.get_paths()]
        known = not self.x.is_dates and not isinstance(ranges, str) and len(ranges) == len(boxes)
        given = [finite(length) for _, length in ranges] if known else [None] * len(boxes)
        lengths = [box.width if length is None else length for box, length in zip(boxes, given)]
        extents = [(box.y0, box.height, box.x0, length) for box, length in zip(boxes, lengths)]
        return self._bars(self._name(collection, colors[0] if len(colors) == 1 else None), False, extents)

    def _bars(self, group: str, vertical: bool, extents: list[tuple[float, float, float, float]]) -> list[Element]:
        """Return elements of bars, each given by start and width on the one axis, base and length on the other."""
        across, along = (self.x, self.y) if vertical else (self.y, self.x)
        numbers = ([finite(number) for number in extent] for extent in extents)
        known = ([number for number in extent if number is not None] for extent in numbers)
        whole = [extent for extent in known if len(extent) == 4][: self.budget.left // 4]
        is_histogram = not across.is_dates and not across.has_names and _touching(whole)
        elements = []
        for start, width, base, length in whole:
            center = start + width / 2
            name = _bin_name(start, start + width) if is_histogram else across.name(center)
            element: Element = {
                "label": name,
                "group": group,
                "value": number_text(along.length(length)),
                "orientation": "vertical" if vertical else "horizontal",
                "position": finite(across.numbers([center])[0]),
                "width": across.length(width),
            }
            if base or along.is_dates:
                element["base"] = finite(along.numbers([base])[0])
            elements.append(element)
        self.budget.left -= 4 * len(whole)
        return elements

    # Pies and boxes

    def wedges(self) -> list[Element]:
        """Return the wedges; where they have no labels, a legend with as many entries names them."""
        wedges = [patch for patch in self.axes.patches if type(patch).__name__ == "Wedge" and patch.get_visible()]
        names = [text(wedge.get_label()) for wedge in wedges]
        legend = self.axes.get_legend()
        if not any(name and not name.startswith("_") for name in names):
            entries = [text(entry.get_text()) for entry in legend.get_texts()] if legend is not None else []
            names = entries if len(entries) == len(wedges) else ["" for _ in wedges]
        found = []
        for name, wedge in zip(names, wedges):
            angle, radius = finite(wedge.theta2 - wedge.theta1), finite(wedge.r)
            if angle is not None and radius is not None:
                found.append({"label": name, "angle": angle, "radius": radius})
        return found

    def boxes(self) -> list[Element]:
        """Return the boxes, with the very numbers that matplotlib drew them from."""
        found = []
        for statistics, artists in getattr(self.axes, "_toolbox_boxes", []):
            for index, (box, median) in enumerate(zip(statistics, artists.get("medians", []))):
                if median.axes is self.axes:
                    patch = artists["boxes"][index] if index < len(artists["boxes"]) else None
                    found.append(self._box(box, median, patch, bool(artists.get("fliers"))))
        return found

    def _box(self, box: Any, median: Any, patch: Any, has_outliers: bool) -> Element:
        # A median line lies across its box, so it tells the direction whatever the numbers are.
        xs, ys = median.get_xdata(orig=False), median.get_ydata(orig=False)
        vertical = ys[0] == ys[-1] or (ys[0] != ys[0] and xs[0] == xs[0] and xs[0] != xs[-1])
        across, along = (self.x, self.y) if vertical else (self.y, self.x)
        place = xs if vertical else ys
        element: Element = {
            "label": across.name((place[0] + place[-1]) / 2),
            "orientation": "vertical" if vertical else "horizontal",
        }
        color = getattr(patch, "get_facecolor", lambda: None)()
        group = self.legend.get(_key(color)) if color is not None else None
        if group:
            element["group"] = group
        names = {"min": "whislo", "first_quartile": "q1", "median": "med", "third_quartile": "q3", "max": "whishi"}
        for name, field in names.items():
            value = finite(along.numbers([box[field]])[0])
            if value is not None:
                element[name] = value
        outliers = box.get("fliers", []) if has_outliers else []
        self.budget.take(element, "outliers", rows_of(along.numbers(outliers))[:, 0])
        return element

    def _name(self, artist: Any, color: Any) -> str:
        """Return an artist's label; for one without (`_child0`), the legend's text beside its colour."""
        label = self.labels.get(id(artist)) or text(artist.get_label() or "")
        if not label and artist in self.axes._children:
            label = f"_child{self.axes._children.index(artist)}"  # as matplotlib calls most
        if label.startswith("_") and color is not None:
            return self.legend.get(_key(color), label)
        return label


def _containers(axes: Any) -> tuple[dict[int, str], dict[int, Any]]:
    """Return the labels of artists that have theirs from a container, and the artists that are no data, both by id."""
    labels: dict[int, str] = {}
    marks: dict[int, Any] = {}
    for container in axes.containers:
        kind = type(container).__name__
        if kind == "ErrorbarContainer":
            data, caps, _ = container.lines
            labels[id(data)] = text(container.get_label() or "")
            marks.update({id(cap): cap for cap in caps})
        elif kind == "StemContainer":
            labels[id(container.markerline)] = text(container.get_label())
            marks[id(container.baseline)] = container.baseline
    for _, artists in getattr(axes, "_toolbox_boxes", []):
        marks.update({id(artist): artist for artist in flat(artists)})
    return labels, marks


def _is_error_bar(rows: Any) -> bool:
    """Tell whether a line is an error bar in one stroke, with both its caps."""
    if len(rows) != 6:
        return False
    strokes = [rows[after] - rows[before] for before, after in ((0, 1), (2, 3), (4, 5))]
    for along in (0, 1):
        across = 1 - along
        if not (strokes[0][along] or strokes[2][along] or strokes[1][across]) and strokes[1][along]:
            return bool(abs(strokes[0][across] - strokes[2][across]) <= 1e-9 * abs(strokes[0][across]))
    return False


def _bin_name(start: float, end: float) -> str:
    """Return what a bin is called; an end at zero may have missed it by a rounding error."""
    start, end = (0.0 if abs(edge) < 1e-9 * (end - start) else edge for edge in (start, end))
    return f"[{start:.10g}, {end:.10g})"


def _touching(extents: list[Any]) -> bool:
    """Tell whether the bars stand edge to edge, as a histogram's do."""
    pairs = list(zip(extents, extents[1:]))
    return bool(pairs) and all(abs(a[0] + a[1] - b[0]) <= 1e-6 * abs(b[1] or 1) for a, b in pairs)


def _key(color: Any) -> tuple[float, ...]:
    """Return a colour for comparing: transparency aside, and rounded."""
    from matplotlib.colors import to_rgb  # noqa: PLC0415 -- only with matplotlib

    return tuple(round(part, 3) for part in to_rgb(color))


def _legend(axes: Any) -> dict[tuple[float, ...], str]:
    """Return the texts of the legend by colour, as far as a colour has one text."""
    legend = axes.get_legend()
    if legend is None:
        return {}
    handles = getattr(legend, "legend_handles", None)  # matplotlib 3.7
    handles = legend.legendHandles if handles is None else handles
    found: dict[tuple[float, ...], str] = {}
    twice = set()
    for handle, entry in zip(handles, legend.get_texts()):
        get = getattr(handle, "get_facecolor", None) or getattr(handle, "get_color", None)
        try:
            color: Any = get() if get else None
            if hasattr(color, "shape") and len(color.shape) > 1:
                color = color[0]
            key = _key(color)
        except (ValueError, TypeError, IndexError):
            continue
        twice |= {key} & set(found)
        found[key] = text(entry.get_text())
    return {key: name for key, name in found.items() if key not in twice}
