"""Paths on the wire stand for any bytes, and back."""

import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolbox import paths
from toolbox.errors import InvalidPath

names = st.binary(min_size=1).filter(lambda name: b"\0" not in name)


@given(names)
@example(b"caf\xe9")
@example("\N{REPLACEMENT CHARACTER}xe9".encode())
@example("\N{REPLACEMENT CHARACTER}".encode() + b"\xff")
@example("\N{REPLACEMENT CHARACTER}x".encode() + b"\xffe9")
@example(b"\xc3" + b"x\xa9")
@example(b"\xed\xa0\x80")
def test_every_name_survives_the_wire(name: bytes) -> None:
    text = paths.escape(os.fsdecode(name))
    assert json.loads(json.dumps(text).encode("utf-8")) == text
    text.encode("utf-8")
    assert os.fsencode(paths.unescape(text)) == name


@given(names, names)
def test_different_names_have_different_texts(one: bytes, other: bytes) -> None:
    assert (one == other) == (paths.escape(os.fsdecode(one)) == paths.escape(os.fsdecode(other)))


@given(st.text().filter(lambda text: "\ufffd" not in text and "\0" not in text))
def test_ordinary_text_stands_for_itself(text: str) -> None:
    assert paths.unescape(text) == text
    assert paths.escape(text) == text


def test_the_documented_form() -> None:
    assert paths.escape(os.fsdecode(b"caf\xe9")) == "caf\ufffdxe9"
    assert paths.lossy(os.fsdecode(b"caf\xe9")) == "caf\ufffd"


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "a\udcff\ud800"])
def test_what_no_file_can_be_called(text: str) -> None:
    with pytest.raises(InvalidPath):
        paths.unescape(text)


@pytest.mark.parametrize(
    ("path", "cleaned"), [("/", "/"), ("//a//b/", "/a/b"), ("/a/./b/.", "/a/b"), ("/a/../b", "/a/../b")]
)
def test_clean(path: str, cleaned: str) -> None:
    assert paths.clean(path) == cleaned
