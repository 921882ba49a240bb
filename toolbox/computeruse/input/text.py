"""Text as it is typed: what can be, and the keysyms of its characters."""

import unicodedata

from toolbox.errors import BadRequest

RETURN = 0xFF0D
_UNICODE = 0x01000000
"""Keysyms from here on are Unicode characters."""

# Before Unicode, keysyms took their low byte from the encoding of a script; layouts still use them.
_ENCODINGS = {
    0x01: "iso8859-2",
    0x02: "iso8859-3",
    0x03: "iso8859-4",
    0x05: "iso8859-6",
    0x06: "koi8-u",
    0x07: "iso8859-7",
    0x0C: "iso8859-8",
    0x0D: "iso8859-11",
    0x12: "iso8859-14",
    0x13: "iso8859-15",
}
_CYRILLIC = "ђѓёєѕіїјљњћќґўџ№ЂЃЁЄЅІЇЈЉЊЋЌҐЎЏ"
_GREEK = {
    code: character
    for first, run in ((0xA1, "ΆΈΉΊΪ"), (0xA7, "ΌΎΫ"), (0xB1, "άέήίϊΐόύϋΰώ"), (0xD2, "Σ"), (0xF2, "σς"))
    for code, character in enumerate(run, first)
} | {0xAB: "Ώ"}


def lines(text: str) -> str:
    r"""Return `text` with `\n` for each end of a line. Raises `BadRequest` for what cannot be typed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for character in set(text):
        if character == "\t":
            raise BadRequest('text with a tab cannot be typed: press the key "tab" instead')
        if character != "\n" and (kind := unicodedata.category(character)) in {"Cc", "Cs", "Zl", "Zp"}:
            what = "separator" if kind in {"Zl", "Zp"} else "control character"
            raise BadRequest(f"text with the {what} U+{ord(character):04X} cannot be typed")
    return text


def keysym_of(character: str) -> int:
    """Return the keysym that types `character`."""
    code = ord(character)
    if character == "\n":
        return RETURN
    return code if 0x20 <= code <= 0x7E or 0xA0 <= code <= 0xFF else _UNICODE | code  # noqa: PLR2004


def character_of(keysym: int) -> str:
    """Return the character that a keysym types, or nothing."""
    if keysym == RETURN:
        return "\n"
    if 0x20 <= keysym <= 0x7E or 0xA0 <= keysym <= 0xFF or 0x20A0 <= keysym <= 0x20AF:  # noqa: PLR2004
        return chr(keysym)
    if _UNICODE < keysym <= _UNICODE | 0x10FFFF:
        return chr(keysym & 0xFFFFFF)
    page, low = keysym >> 8, keysym & 0xFF
    if page == 0x06 and 0xA1 <= low <= 0xBF:  # noqa: PLR2004
        return _CYRILLIC[low - 0xA1]
    if page == 0x07 and low in _GREEK:  # noqa: PLR2004
        return _GREEK[low]
    try:
        return bytes([low]).decode(_ENCODINGS[page]) if low > 0xA0 else ""  # noqa: PLR2004
    except (KeyError, UnicodeDecodeError):
        return ""
