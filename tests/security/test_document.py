"""The threat model and the tests are one: each claim has its tests, and these exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/security.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def claims() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return every claim of the document with the tests that it names."""
    found = []
    inside = False
    for line in DOCUMENT.read_text().splitlines():
        inside = (inside or line == "| claim | test |") and line.startswith("|")
        if inside and line not in ("| claim | test |", "| --- | --- |"):
            claim, tests = line.strip("|").rsplit("|", 1)
            found.append((claim.strip(), _TEST.findall(tests)))
    return found


def defined(file: str) -> set[str]:
    """Return the test functions of a file."""
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_claim_has_its_tests() -> None:
    found = claims()
    assert len(found) > 40
    assert [claim for claim, tests in found if not tests] == []
    for claim, tests in found:
        for file, name in tests:
            assert name in defined(file), (claim, file, name)


def test_every_security_test_stands_for_a_claim() -> None:
    named = {(file, name) for _, tests in claims() for file, name in tests}
    for path in sorted((ROOT / "tests/security").glob("test_*.py")):
        if path != Path(__file__):
            file = str(path.relative_to(ROOT))
            tests = {name for name in defined(file) if name.startswith("test_")}
            assert tests <= {name for each, name in named if each == file}, file
