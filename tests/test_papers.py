"""What the papers say of options, routes, commands and licences is what there is."""

import contextlib
import itertools
import re
import tomllib
from dataclasses import MISSING, Field, fields
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import toolbox
from controlplane.app import ENDPOINTS
from tests.conftest import Daemon
from toolbox.__main__ import main
from toolbox.config import ClientConfig, CommonConfig, ServeConfig, UpConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """Return what stands under a heading of the README."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def in_backticks(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def options(config: type[CommonConfig]) -> dict[str, Field[Any]]:
    """Return the options of a command, named as its flags are."""
    return {each.name.replace("_", "-"): each for each in fields(config) if "help" in each.metadata}


def rows() -> list[list[str]]:
    """Return the table of options: names, default, meaning."""
    lines = [line for line in section("Configuration").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_option_is_in_the_table() -> None:
    told = [name for names, *_ in rows() for name in in_backticks(names)]
    assert len(told) == len(set(told))
    known = options(ServeConfig).keys() | options(UpConfig).keys()
    assert set(told) == known | {"TOOLBOX_LSP_<LANGUAGE>"}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_table_says_which_command_and_default(row: list[str]) -> None:
    serve, up = options(ServeConfig), options(UpConfig)
    names, default, text = row
    for name in in_backticks(names):
        if name.startswith("TOOLBOX_"):
            continue
        alone = {(True, False): "`serve`", (False, True): "`up`", (True, True): ""}[name in serve, name in up]
        assert alone in text, f"{name}: only {alone} has it"
        value = (serve.get(name) or up[name]).default
        if isinstance(value, int) or (isinstance(value, str) and value):
            assert f"`{str(value).lower() if isinstance(value, bool) else value}`" in default, f"{name} is {value!r}"
        else:
            assert value in {None, MISSING, "", ()}


def test_what_up_passes_on_and_what_the_reference_calls_it() -> None:
    text = section("Configuration")
    passed_on = re.search(r"^Variables for options of `serve`.*?No others", text, re.MULTILINE | re.DOTALL)
    assert passed_on
    wanted = {name for name, option in options(ServeConfig).items() if option.metadata["passed_on"]}
    assert set(in_backticks(passed_on[0])) - {"serve", "up", "TOOLBOX_LSP_<LANGUAGE>"} == wanted
    legacy = {option.metadata["legacy"] for each in (ServeConfig, UpConfig, ClientConfig) for option in fields(each)
              if option.metadata.get("legacy")}  # fmt: skip
    told = in_backticks(text)
    begun = "DAYTONA_DAEMON_LOG_FILE"
    assert legacy <= {*told, *(begun + name for name in told if name.startswith("_"))}


async def test_every_area_of_routes_is_in_the_table(daemon: Daemon) -> None:
    async with daemon.http.get("/openapi.json") as response:
        paths = list((await response.json())["paths"])
    paths += [endpoint.path for endpoint in ENDPOINTS if not endpoint.path.startswith(("/preview", "/toolbox/"))]
    table = "\n".join(line for line in section("What it answers").splitlines() if line.startswith("| "))
    told = [name.rpartition(" ")[2] for name in in_backticks(table)]
    for path in paths:
        area = re.match(r"(/api/[\w.-]+|/[\w.-]+)", path)
        assert area, path
        assert any(name.removeprefix("…").startswith(area[0]) for name in told), f"{path}: {area[0]} is not told"


@pytest.mark.parametrize("word", ["", "serve", "up"])
def test_help_agrees_with_the_readme(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([word, "--help"] if word else ["--help"])
    text = capsys.readouterr().out
    if word:
        flags = set(re.findall(r"^  --([\w-]+)", text, re.MULTILINE))
        assert flags == options({"serve": ServeConfig, "up": UpConfig}[word]).keys()
    else:
        names = [
            line.partition(" | ")[0] for line in section("Commands").splitlines() if line.startswith("| `toolboxd ")
        ]
        told = {name.removeprefix("toolboxd ") for cell in names for name in in_backticks(cell)}
        assert told == set(re.findall(r"^    ([a-z][a-z-]*)(?:  |$)", text, re.MULTILINE))


def test_every_extra_is_told() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    told = re.findall(r"^\| `([a-z]+)` \|", section("Commands"), re.MULTILINE)
    assert set(told) == extras - {"dev"}


def test_the_architecture_names_what_there_is() -> None:
    """`area.module.Class` of the daemon, and `controlplane.module`."""
    places = (ROOT, ROOT / "toolbox", ROOT / "toolbox/computeruse")
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = re.findall(r"`([a-z]\w*(?:\.[a-z]\w*)+(?:\.[A-Z]\w*)?|[a-z]\w*\.[A-Z]\w*)`", text)
    ours = [name for name in names if any((place / name.partition(".")[0]).is_dir() for place in places)]
    assert len(ours) > 10
    for name in ours:
        module, _, last = name.rpartition(".") if re.search(r"\.[A-Z]\w*$", name) else (name, "", "")
        path = module.replace(".", "/")
        found = [
            each for place in places for each in (place / f"{path}.py", *(place / path).glob("*.py")) if each.exists()
        ]
        assert any(f"class {last}" in each.read_text() for each in found), name


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{toolbox.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def needed(requirement: str, seen: dict[str, str]) -> None:
    """Add to `seen` what a requirement needs, itself too: name -> licence, as far as it is installed."""
    wanted = Requirement(requirement)
    name = canonicalize_name(wanted.name)
    if name in seen or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
        return
    with contextlib.suppress(PackageNotFoundError):
        found = distribution(name)
        said = [text for key in ("License-Expression", "License") for text in found.metadata.get_all(key) or ()]
        said += [text for text in found.metadata.get_all("Classifier") or () if text.startswith("License")]
        seen[name] = " ".join(text.partition("\n")[0] for text in said)
        for more in found.requires or ():
            needed(more, seen)


def test_the_notice_names_what_is_not_under_a_permissive_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name != "dev"}
    seen: dict[str, str] = {}
    for requirement in (*project["dependencies"], *itertools.chain(*extras.values())):
        needed(requirement, seen)
    assert {"aiohttp", "asyncssh", "bidict"} <= seen.keys()
    reciprocal = {name for name, said in seen.items() if re.search(r"GPL|MPL|EPL|Mozilla|GNU|Eclipse", said)}
    notice = (ROOT / "NOTICE").read_text().lower()
    assert {name for name in reciprocal if name not in notice} == set()
