"""Columns of lines: UTF-16 units, which the protocol counts, and code points, which some servers count."""

import re

_LINE_END = re.compile(r"\r\n|\n|\r")
_BEYOND_16_BITS = re.compile("[\U00010000-\U0010ffff]")


class Text:
    """A text by lines, as the protocol divides it."""

    def __init__(self, content: str) -> None:
        self.content = content
        self._wide = _BEYOND_16_BITS.search(content) is not None
        self._lines: list[str] | None = None

    @property
    def wide(self) -> bool:
        """Whether a column can be another in UTF-16 units than in code points."""
        return self._wide

    @property
    def lines(self) -> list[str]:
        """All lines, without their ends; a text that ends in a line end has an empty last one."""
        if self._lines is None:
            self._lines = _LINE_END.split(self.content)
        return self._lines

    def length(self, line: int) -> int:
        """Return the length of a line in UTF-16 units."""
        return utf16_units(self.lines[line])

    def code_points(self, line: int, units: int) -> int:
        """Return the column in code points of one in UTF-16 units."""
        return code_points(self.lines[line], units) if self._wide and line < len(self.lines) else units

    def units(self, line: int, points: int) -> int:
        """Return the column in UTF-16 units of one in code points."""
        if not self._wide or line >= len(self.lines):
            return points
        text = self.lines[line]
        # What is beyond the line stays beyond it.
        return utf16_units(text[:points]) + max(0, points - len(text))

    def offset(self, line: int, units: int) -> int:
        """Return the offset in the content, in code points, of a position in UTF-16 units; the end if it is beyond."""
        start = 0
        for number, end in enumerate(_LINE_END.finditer(self.content)):
            if number == line:
                return start + code_points(self.content[start : end.start()], units)
            start = end.end()
        if line == len(self.lines) - 1:
            return start + code_points(self.content[start:], units)
        return len(self.content)


def utf16_units(text: str) -> int:
    """Return the length of `text` in UTF-16 units."""
    return len(text) if text.isascii() else len(text) + len(_BEYOND_16_BITS.findall(text))


def code_points(line: str, units: int) -> int:
    """Return the code points in the first `units` UTF-16 units of `line`, at most all of them."""
    if line.isascii():
        return min(units, len(line))
    for index, character in enumerate(line):
        if units <= 0:
            return index
        units -= 1 + (ord(character) > 0xFFFF)  # noqa: PLR2004 -- the last one of 16 bits
    return len(line)


def apply(content: str, edits: list[tuple[int, int, str]]) -> str:
    """Return `content` with each edit, start and end offset and new text, carried out on the original."""
    pieces, at = [], 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        pieces += [content[at:start], new]
        at = max(at, end)
    return "".join([*pieces, content[at:]])
