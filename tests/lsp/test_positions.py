"""Columns: UTF-16 units against code points, and edits."""

from hypothesis import given
from hypothesis import strategies as st

from toolbox.lsp.columns import to_code_points, to_units
from toolbox.lsp.positions import Text, apply, utf16_units

LINES = st.lists(st.text(st.sampled_from("aé€😀🧭\t"), max_size=8), min_size=1, max_size=5)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(LINES, ENDS, st.data())
def test_columns_there_and_back(lines: list[str], end: str, data: st.DataObject) -> None:
    text = Text(end.join(lines))
    assert text.lines == lines
    line = data.draw(st.integers(0, len(lines) - 1))
    points = data.draw(st.integers(0, len(lines[line])))
    units = text.units(line, points)
    assert units == len(lines[line][:points].encode("utf-16-le")) // 2
    assert text.code_points(line, units) == points
    assert text.length(line) == utf16_units(lines[line])
    offset = text.offset(line, units)
    assert text.content[:offset] == end.join([*lines[:line], lines[line][:points]])


@given(LINES, st.integers(0, 9), st.integers(0, 99))
def test_columns_that_are_none(lines: list[str], line: int, column: int) -> None:
    text = Text("\n".join(lines))
    assert 0 <= text.offset(line, column) <= len(text.content)
    if line < len(lines):
        assert text.units(line, column) >= min(column, utf16_units(lines[line]))
        text.code_points(line, column)
    else:
        assert text.units(line, column) == text.code_points(line, column) == column


def test_only_line_ends_of_the_protocol_end_lines() -> None:
    assert Text("a\x0bb\x0c\u2028c\n").lines == ["a\x0bb\x0c\u2028c", ""]


@given(st.text("ab\n", max_size=20), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4))
def test_edits_are_of_the_original(content: str, places: list[tuple[int, int]]) -> None:
    at, edits = 0, []
    for start, end in sorted(tuple(sorted(place)) for place in places):
        if at <= start <= end <= len(content):
            edits.append((start, end, "X"))
            at = end
    expected = content
    for start, end, new in reversed(edits):
        expected = expected[:start] + new + expected[end:]
    assert (
        apply(content, list(reversed(edits)) if len({edit[:2] for edit in edits}) == len(edits) else edits) == expected
    )


class NoThreads:
    """Reads nothing."""

    async def run(self, *_: object) -> dict[str, Text]:
        """Find no file."""
        return {}


async def test_every_position_of_a_message_is_turned() -> None:
    texts = {"/a b": Text("😀😀"), "/c": Text("x😀")}
    message = {
        "params": {"uri": "file:///a%20b", "list": [{"range": {"start": at(1), "end": at(2)}}]},
        "changes": {"file:///c": [{"range": {"start": at(1), "end": at(2)}, "newText": ""}]},
        "here": at(1),
        "elsewhere": {"targetUri": "file:///d", "at": at(7)},
        "documentChanges": [{"textDocument": {"uri": "file:///c"}, "edits": [{"start": at(2)}]}],
    }
    result = await to_units(message, ("/c", texts["/c"]), texts.get, NoThreads())  # type: ignore[arg-type]
    assert result["params"]["list"] == [{"range": {"start": at(2), "end": at(4)}}]
    assert result["changes"]["file:///c"][0]["range"] == {"start": at(1), "end": at(3)}
    assert (result["here"], result["elsewhere"]["at"]) == (at(1), at(7))
    assert result["documentChanges"][0]["edits"] == [{"start": at(3)}]
    params = {"textDocument": {"uri": "file:///a%20b"}, "position": at(3)}
    to_code_points(params, "/a b", texts)
    assert params["position"] == at(2)


def at(character: int) -> dict[str, int]:
    return {"line": 0, "character": character}
