"""Rules of the house that no linter knows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WIRE = {"routes.py", "responses.py"}
WIRE_OF_FILES = {"routes_search.py", "archives.py", "bodies.py", "events.py", "results.py"}
"""Files that know HTTP: routes, and bodies that need the transport."""
MECHANICS = {"children", "config", "errors", "lifetime", "logs", "paths", "state", "telemetry", "threads", "web"}


def imports(file: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def areas() -> set[str]:
    return {path.parent.name for path in (ROOT / "toolbox").glob("*/routes.py")}


@pytest.mark.parametrize("area", sorted(areas()))
def test_areas_do_not_know_each_other(area: str) -> None:
    others = {f"toolbox.{other}" for other in areas() - {area}}
    for file in (ROOT / "toolbox" / area).rglob("*.py"):
        known = {".".join(module.split(".")[:2]) for module in imports(file)}
        assert not known & others, file


@pytest.mark.parametrize("area", sorted(areas()))
def test_only_routes_know_http(area: str) -> None:
    for file in (ROOT / "toolbox" / area).rglob("*.py"):
        if file.name not in WIRE | (WIRE_OF_FILES if area == "files" else set()):
            assert not any(module.startswith("aiohttp") for module in imports(file)), file


def test_mechanics_know_no_area() -> None:
    for name in MECHANICS:
        files = (
            (ROOT / "toolbox" / name).rglob("*.py")
            if (ROOT / "toolbox" / name).is_dir()
            else [ROOT / f"toolbox/{name}.py"]
        )
        for file in files:
            assert not any(
                module.startswith(tuple(f"toolbox.{area}" for area in areas())) for module in imports(file)
            ), file


def test_the_control_plane_knows_the_daemon_only_from_outside() -> None:
    for file in (ROOT / "controlplane").rglob("*.py"):
        for module in imports(file):
            if module.startswith("toolbox."):
                assert module.split(".")[1] in MECHANICS, (file, module)


def top_imports(file: Path) -> set[str]:
    """Return the modules that importing the file imports."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imported_at_start(modules: dict[str, Path]) -> set[str]:
    """Return which of `modules` a program has imported before its first request."""
    found: set[str] = set()
    left = [name for name in modules if name.endswith((".__main__", ".app"))]
    while left:
        name = left.pop()
        if name in modules and name not in found:
            found.add(name)
            left += top_imports(modules[name])
    return found


HEAVY = {
    "PIL",
    "Xlib",
    "asyncssh",
    "dbus_fast",
    "git",
    "hypothesis",
    "isal",
    "jupyter_client",
    "jwt",
    "mss",
    "opentelemetry",
    "prometheus_client",
    "socketio",
}
HEAVY |= {"kubernetes_asyncio", "uuid6", "zmq"}


def test_heavy_libraries_are_imported_when_first_used() -> None:
    """A module may import them if it is itself imported only then."""
    files = [file for package in ("toolbox", "controlplane") for file in (ROOT / package).rglob("*.py")]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}
    for name in imported_at_start(modules):
        assert not {module.split(".")[0] for module in top_imports(modules[name])} & HEAVY, name


def test_files_stay_readable() -> None:
    for package in ("toolbox", "controlplane", "charts"):
        for file in (ROOT / package).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 500, file
