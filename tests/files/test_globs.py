"""Name patterns in the reference daemon's words."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolbox.files.globs import BadPattern, name_matcher, path_matcher


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*", ["", "a", ".a", "a\nb", "é"], []),
        ("*.txt", ["a.txt", ".txt", "a.txt.txt"], ["a.txtx", "a.TXT", "txt"]),
        ("a", ["a"], ["aa", "A", ""]),
        ("a?c", ["abc", "aéc", "a\udce9c"], ["ac", "abbc"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x", "-x"]),
        ("[^a-c]x", ["dx", "-x"], ["ax", "x"]),
        ("[!a]", ["!", "a"], ["b"]),
        ("[a\\]]", ["a", "]"], ["\\"]),
        ("[\\^a]", ["^", "a"], ["b"]),
        ("[z-a]", [], ["z", "a", "m"]),
        ("[^z-a]", ["z", "m"], [""]),
        ("[[]", ["["], ["]"]),
        ("\\*", ["*"], ["a", "\\*"]),
        ("a**b", ["ab", "axxb"], ["a"]),
        ("{a,b}", ["{a,b}"], ["a"]),
        ("a*b*c*", ["abc", "axbxcx"], ["acb"]),
        ("*a*a", ["aa", "xaxa"], ["a", "aax"]),
        ("a|b", ["a|b"], ["a", "b"]),
    ],
)
def test_names(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = name_matcher(pattern)
    assert all(matches(name) for name in matching)
    assert not any(matches(name) for name in others)


@pytest.mark.parametrize("pattern", ["[", "a[", "[]", "[]a]", "[^]", "[a", "[a-", "[a-]", "[-a]", "\\", "a\\", "[\\"])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(BadPattern):
        name_matcher(pattern)


@given(st.text("ab*?", max_size=12), st.text("abc\n", max_size=12))
def test_stars_as_plain_backtracking_has_them(pattern: str, name: str) -> None:
    plain = re.compile(pattern.replace("*", ".*").replace("?", "."), re.DOTALL) if "**" not in pattern else None
    if plain is not None:
        assert bool(name_matcher(pattern)(name)) == bool(plain.fullmatch(name))


@given(st.text(max_size=8))
def test_every_pattern_is_one_or_is_refused(pattern: str) -> None:
    try:
        name_matcher(pattern)("any name")
    except BadPattern:
        assert set(pattern) & set("[\\")


def test_no_pattern_takes_for_ever() -> None:
    started = time.monotonic()
    assert not name_matcher("*a" * 30 + "*b")("a" * 255)
    assert time.monotonic() - started < 60  # exponential backtracking would not come back at all


def test_paths() -> None:
    matches = path_matcher(["*.py", "src/*/x", "a/**/z", "build/**"])
    assert matches is not None
    for path in ("a.py", "d/e/a.py", "src/b/x", "a/z", "a/b/c/z", "build/a/b"):
        assert matches(path), path
    for path in ("a.pyc", "src/b/c/x", "x/src/b/x", "b/a/z", "build"):
        assert not matches(path), path
    assert path_matcher([]) is None
