"""The size of the screen, changed by RandR."""

from typing import Any

from Xlib.display import Display
from Xlib.ext import randr

from toolbox.computeruse.desktop.size import Size

MM_PER_PIXEL = 25.4 / 96


def set_size(display: Display, size: Size) -> None:
    """Give the screen a new size.

    The virtual output has no modes but its first, so one is made for every other size.
    """
    root = display.screen().root
    resources = randr.get_screen_resources(root)
    crtc, output = resources.crtcs[0], resources.outputs[0]
    mode = _mode(display, root, resources, output, size)
    # Neither may the output be larger than the screen, so it is off meanwhile.
    display.grab_server()
    try:
        _configure(display, crtc, 0, [])
        root.xrandr_set_screen_size(
            size.width, size.height, round(size.width * MM_PER_PIXEL), round(size.height * MM_PER_PIXEL)
        )
        _configure(display, crtc, mode, [output])
    finally:
        display.ungrab_server()
        display.sync()
    # What the connection remembers of its screen.
    screen: Any = display.screen()
    screen.width_in_pixels, screen.height_in_pixels = size


def _configure(display: Display, crtc: int, mode: int, outputs: list[int]) -> None:
    randr.set_crtc_config(display, crtc, 0, 0, 0, mode, randr.Rotate_0, outputs)


def _mode(display: Display, root: Any, resources: Any, output: int, size: Size) -> int:
    for mode in resources.modes:
        if (mode.width, mode.height) == size:
            return int(mode.id)
    name = f"{size.width}x{size.height}"
    timing: Any = {"id": 0, "width": size.width, "height": size.height, "dot_clock": 0}
    timing |= {"h_sync_start": 0, "h_sync_end": 0, "h_total": size.width, "h_skew": 0}
    timing |= {"v_sync_start": 0, "v_sync_end": 0, "v_total": size.height, "name_length": len(name), "flags": 0}
    made = randr.create_mode(root, timing, name)
    randr.add_output_mode(display, output, made.mode)
    return int(made.mode)
