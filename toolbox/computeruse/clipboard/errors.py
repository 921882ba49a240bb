"""Errors of the clipboard."""

from toolbox.errors import PayloadTooLarge, Unavailable

MAX_BYTES = 32 * 1024 * 1024
"""The largest text or image, either way."""


class OwnerUnresponsive(Unavailable):
    """The program that was copied from does not hand it out."""

    code = "CLIPBOARD_OWNER_UNRESPONSIVE"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the program that offers the clipboard's content does not answer for {seconds:.0f} s")


class ContentTooLarge(PayloadTooLarge):
    """More than the clipboard takes or gives."""

    def __init__(self) -> None:
        super().__init__(f"the clipboard's content is limited to {MAX_BYTES // 1024 // 1024} MiB")
