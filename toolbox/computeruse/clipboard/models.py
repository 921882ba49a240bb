"""Wire models of the clipboard."""

from typing import Literal

from msgspec import UNSET, UnsetType

from toolbox.web.wire import Model

Selection = Literal["clipboard", "primary"]
"""What copying puts, and what marking text with the mouse puts."""


class ClipboardQuery(Model):
    """`auto` is text if there is any, or else an image."""

    selection: Selection = "clipboard"
    format: Literal["auto", "text", "image"] = "auto"


class ClipboardContent(Model):
    """What would be pasted."""

    selection: Selection
    targets: list[str]
    """All formats it is offered in, by X's names and MIME types; empty when there is nothing."""
    text: str | UnsetType = UNSET
    image: str | UnsetType = UNSET
    """A PNG in base64."""


class SetClipboardRequest(Model):
    """Either a text or an image: a PNG in base64."""

    selection: Selection = "clipboard"
    text: str | None = None
    image: str | None = None
