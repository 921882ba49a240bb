"""The clipboard of the desktop: read, and written."""

import asyncio
import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TypeVar

from toolbox.computeruse.clipboard.errors import MAX_BYTES, ContentTooLarge
from toolbox.computeruse.clipboard.models import ClipboardContent, Selection
from toolbox.computeruse.errors import DesktopUnavailable
from toolbox.computeruse.xserver import XServer
from toolbox.errors import BadRequest

if TYPE_CHECKING:
    from toolbox.computeruse.clipboard.keeper import Keeper
    from toolbox.computeruse.clipboard.selections import Selections

T = TypeVar("T")

ALL_SECONDS = 60.0
"""How long one request may take at most, waiting for others before it included."""
_PNG = b"\x89PNG\r\n\x1a\n"


class Clipboard:
    """Reads and writes the selections of the X server of `display()`, one request after another.

    All raise `DesktopUnavailable`. What was written is kept by a thread until another program takes its place.
    """

    def __init__(self, display: Callable[[], str], xserver: XServer) -> None:
        self._display = display
        """Returns the name of the display. Raises `DesktopUnavailable`."""
        self._xserver = xserver
        self._keeper: Keeper | None = None
        self._changing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def read(self, selection: Selection, form: str) -> ClipboardContent:
        """Return what would be pasted. `form`: text, image, or auto.

        Raises `OwnerUnresponsive`, and `ContentTooLarge` for more than `MAX_BYTES`.
        """
        targets, text, image = await self._run(lambda selections: selections.read(selection, form))
        content = ClipboardContent(selection=selection, targets=targets)
        if text is not None:
            content.text = text
        if image is not None:
            content.image = (await asyncio.to_thread(base64.b64encode, image)).decode()
        return content

    async def write(self, selection: Selection, *, text: str | None, image: str | None) -> None:
        """Offer a text, or an image (a PNG in base64). Raises `BadRequest`, `ContentTooLarge`."""
        if (text is None) == (image is None):
            raise BadRequest("exactly one of text and image is needed")
        if text is not None:
            data = text.encode("utf-8", "replace")
        else:
            data = await asyncio.to_thread(_decode_png, image or "")
        if len(data) > MAX_BYTES:
            raise ContentTooLarge
        await self._run(lambda selections: selections.own(selection, data, is_text=text is not None))

    async def close(self) -> None:
        """End the thread; what was written goes with it."""
        async with self._changing:
            if self._keeper is not None:
                await self._keeper.close()
                self._keeper = None

    async def _run(self, work: "Callable[[Selections], T]") -> T:
        keeper = await self._kept(self._display())
        try:
            async with asyncio.timeout(ALL_SECONDS):
                return await asyncio.wrap_future(keeper.submit(work))
        except TimeoutError:
            await self.close()
            raise DesktopUnavailable(f"the clipboard does not answer for {ALL_SECONDS:.0f} s") from None

    async def _kept(self, name: str) -> "Keeper":
        """Return the thread of a display, started if need be."""
        from toolbox.computeruse.clipboard.keeper import Keeper  # noqa: PLC0415 -- has Xlib

        async with self._changing:
            if self._keeper is None or self._keeper.ended or self._keeper.name != name:
                if self._keeper is not None:
                    await self._keeper.close()
                    self._keeper = None
                await self._xserver.run(lambda display: display.sync())  # it is there, and answers
                self._keeper = Keeper(name)
            return self._keeper


def _decode_png(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error, or not ASCII
        raise BadRequest(f"invalid image: not base64: {error}") from None
    if not data.startswith(_PNG):
        raise BadRequest("invalid image: not a PNG")
    return data
