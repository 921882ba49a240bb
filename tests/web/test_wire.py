"""Lenient decoding: case, null, unknown fields; and that nothing makes it fail in another way than it says."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolbox.errors import BadRequest, InvalidBody
from toolbox.web import wire


class Inner(wire.Model):
    some_name: str = ""


class Outer(wire.Model):
    run_async: bool = False
    count: int = 0
    inner: Inner | None = None
    inners: list[Inner] = []
    texts: dict[str, str] = {}
    name: wire.Text = "x"


def decode(text: str) -> Outer:
    return wire.decode(text.encode(), Outer)


def test_keys_match_without_regard_to_case_at_any_depth() -> None:
    assert decode('{"RUNASYNC": true, "Inner": {"SomeName": "a"}, "inners": [{"SOMENAME": "b"}]}') == Outer(
        run_async=True, inner=Inner("a"), inners=[Inner("b")]
    )


def test_an_exact_key_wins_over_one_that_only_matches() -> None:
    assert decode('{"COUNT": 1, "count": 2}').count == 2
    assert decode('{"count": 2, "COUNT": 1}').count == 2


def test_keys_of_maps_keep_their_case() -> None:
    assert decode('{"texts": {"Path": "1", "PATH": "2"}}').texts == {"Path": "1", "PATH": "2"}


def test_null_is_absent_and_unknown_fields_are_ignored() -> None:
    assert decode('{"runAsync": null, "count": null, "nope": [1, {}]}') == Outer()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"x"', '{"count": "1"}', '{"count": 1.5}', '{"runAsync": 1}', '{"name": ""}', "{}x"],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InvalidBody):
        decode(text)


@given(st.binary())
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        assert isinstance(wire.decode(data, Outer), Outer)
    except InvalidBody as error:
        error.message.encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["count", "Inner", "texts"]), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["count", "COUNT", "inner", "inners", "texts", "name", "runasync"]), JSON))
def test_any_object_decodes_or_is_refused(value: object) -> None:
    try:
        wire.decode(msgspec.json.encode(value), Outer)
    except InvalidBody as error:
        error.message.encode()


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(InvalidBody):
        wire.decode(b'{"inner":' * 100_000, Outer)


def test_query_text_becomes_numbers_and_booleans() -> None:
    assert wire.convert_text({"count": "5", "runAsync": "true"}, Outer) == Outer(count=5, run_async=True)
    with pytest.raises(BadRequest):
        wire.convert_text({"count": "five"}, Outer)
