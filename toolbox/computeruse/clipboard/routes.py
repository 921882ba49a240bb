"""Routes of the clipboard."""

from toolbox.computeruse.clipboard.clipboard import Clipboard
from toolbox.computeruse.clipboard.models import ClipboardContent, ClipboardQuery, SetClipboardRequest
from toolbox.web.endpoint import Routes

routes = Routes("computer-use")


@routes.get("/computeruse/clipboard", "GetClipboard")
async def get_clipboard(query: ClipboardQuery, clipboard: Clipboard) -> ClipboardContent:
    """Return what would be pasted."""
    return await clipboard.read(query.selection, query.format)


@routes.post("/computeruse/clipboard", "SetClipboard")
async def set_clipboard(body: SetClipboardRequest, clipboard: Clipboard) -> dict[str, str]:
    """Put a text or an image into the clipboard; it is there until something else is copied."""
    await clipboard.write(body.selection, text=body.text, image=body.image)
    return {}
