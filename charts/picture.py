"""Draw a figure once, as PNG."""

from __future__ import annotations

import io
import math
from typing import Any

MAX_PIXELS = 8_000_000
"""More pixels than any model looks at; a larger figure is drawn with fewer dots per inch."""
MAX_SIDE = 8192
"""Pixels."""
PADDING = 0.1
"""Inches around what is drawn, as in `savefig(bbox_inches="tight")`."""


def draw(figure: Any) -> bytes:
    """Return the figure as PNG, cut to what is drawn; its own canvas, size and resolution are as before.

    A figure that draws beyond its edge is drawn a second time with a wider one, as matplotlib's "tight" box always is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- only with matplotlib
    from matplotlib.transforms import Bbox  # noqa: PLC0415

    agg: Any
    canvas, dpi = figure.canvas, figure.dpi
    try:
        figure.dpi = fitting(dpi, *figure.get_size_inches())
        agg = FigureCanvasAgg(figure)
        agg.draw()
        tight = figure.get_tightbbox(agg.get_renderer())
        whole = Bbox.from_bounds(0, 0, *figure.get_size_inches())
        if not _is_finite(tight):
            return _png(agg, figure.dpi, None)
        tight = tight.padded(PADDING)
        inside = Bbox.intersection(tight, whole)
        beyond = max(whole.x0 - tight.x0, whole.y0 - tight.y0, tight.x1 - whole.x1, tight.y1 - whole.y1)
        if inside is None or beyond > PADDING:
            figure.dpi = fitting(figure.dpi, tight.width, tight.height)
            file = io.BytesIO()
            agg.print_figure(file, dpi=figure.dpi, format="png", bbox_inches=tight)
            return file.getvalue()
        return _png(agg, figure.dpi, inside)
    finally:
        figure.dpi = dpi
        figure.set_canvas(canvas)


def fitting(dpi: float, width: float, height: float) -> float:
    """Return the resolution, lowered where so many inches would make too large a picture."""
    if not (width > 0 and height > 0):
        return dpi
    return max(min(dpi, math.sqrt(MAX_PIXELS / (width * height)), MAX_SIDE / width, MAX_SIDE / height), 1.0)


def _is_finite(box: Any) -> bool:
    return box is not None and all(math.isfinite(value) for value in box.bounds) and box.width > 0 and box.height > 0


def _png(agg: Any, dpi: float, box: Any) -> bytes:
    """Encode what the canvas has drawn, cut to a box in inches."""
    import numpy as np  # noqa: PLC0415 -- matplotlib has loaded them
    from PIL import Image  # noqa: PLC0415

    pixels = np.asarray(agg.buffer_rgba())
    if box is not None:
        height, width = pixels.shape[:2]
        left, right = max(math.floor(box.x0 * dpi), 0), min(math.ceil(box.x1 * dpi), width)
        top, bottom = max(height - math.ceil(box.y1 * dpi), 0), min(height - math.floor(box.y0 * dpi), height)
        pixels = pixels[top:bottom, left:right]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "png", dpi=(dpi, dpi))
    return file.getvalue()
