"""The monitors of a screen, by RandR."""

from typing import Any

from Xlib.display import Display
from Xlib.ext import randr

from toolbox.computeruse.windows.models import DisplayInfo


def displays(display: Display) -> list[DisplayInfo]:
    """Return the monitors; the whole screen as one where there are none."""
    root: Any = display.screen().root
    monitors = randr.get_monitors(root).monitors if display.has_extension(randr.extname) else []
    if not monitors:
        screen = root.get_geometry()
        return [_display(0, "screen", (0, 0, screen.width, screen.height), is_primary=True)]
    primary = next((number for number, monitor in enumerate(monitors) if monitor.primary), 0)
    return [
        _display(
            number,
            display.get_atom_name(monitor.name),
            (monitor.x, monitor.y, monitor.width_in_pixels, monitor.height_in_pixels),
            is_primary=number == primary,
        )
        for number, monitor in enumerate(monitors)
    ]


def _display(number: int, name: str, area: tuple[int, int, int, int], *, is_primary: bool) -> DisplayInfo:
    x, y, width, height = area
    return DisplayInfo(
        id=number, x=x, y=y, width=width, height=height, is_active=width > 0, is_primary=is_primary, name=name
    )
