"""The X server of a test's daemon, from the other side: what draws on its screen."""

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image
from Xlib import X
from Xlib.display import Display
from Xlib.error import ConnectionClosedError

from toolbox.children import tree


class Canvas:
    """The root window of a screen, drawn on by a connection of its own."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.display: Any = Display(name)
        self.root: Any = self.display.screen().root
        self.display.xfixes_query_version()  # before it may be used
        geometry = self.root.get_geometry()
        self.size = (geometry.width, geometry.height)

    def fill(self, colour: int, x: int, y: int, width: int, height: int) -> None:
        """Draw a rectangle, and return once it is there."""
        gc = self.root.create_gc(foreground=colour, subwindow_mode=X.IncludeInferiors)
        self.root.fill_rectangle(gc, x, y, width, height)
        gc.free()
        self.display.sync()

    def scribble(self, seed: int = 1, times: int = 200) -> None:
        """Draw rectangles of many sizes and colours."""
        rng = random.Random(seed)
        width, height = self.size
        gc = self.root.create_gc()
        for _ in range(times):
            gc.change(foreground=rng.getrandbits(24))
            self.root.fill_rectangle(gc, rng.randrange(width), rng.randrange(height), rng.randrange(300), 40)
        gc.free()
        self.display.sync()

    def point(self, x: int, y: int) -> None:
        """Move the pointer."""
        self.root.warp_pointer(x, y)
        self.display.sync()

    def picture(self) -> Image.Image:
        """Return what is on the screen, as the X protocol has it without any extension."""
        width, height = self.size
        data = self.root.get_image(0, 0, width, height, X.ZPixmap, 0xFFFFFFFF).data
        return Image.frombytes("RGB", self.size, data, "raw", "BGRX")


def decode(data: bytes) -> Image.Image:
    """Return the picture in an image file."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _x_server() -> tuple[str, int]:
    """Return display and pid of the X server that is a child of this process."""
    names = {}
    for line in Path("/proc/net/unix").read_text().splitlines():
        words = line.split()
        if words[-1].startswith("/tmp/.X11-unix/X"):
            names[f"socket:[{words[6]}]"] = ":" + words[-1].removeprefix("/tmp/.X11-unix/X")
    for pid in tree.direct_children():
        if Path(f"/proc/{pid}/comm").read_text().strip() == "Xvfb":
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                if (link := str(descriptor.readlink())) in names:
                    return names[link], pid
    raise AssertionError("no X server was started here")


@contextmanager
def x_canvas() -> Iterator[Canvas]:
    """Give the screen of the desktop that the daemon in this process has started."""
    canvas = Canvas(*_x_server())
    try:
        yield canvas
    finally:
        with suppress(ConnectionClosedError):  # the X server may have been ended
            canvas.display.close()
