"""Which language server serves which language, and where it is found."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolbox.errors import BadRequest
from toolbox.lsp.errors import StartFailed

_BUNDLE = (Path(sys.executable).parent, Path(sys.prefix) / "lib/node_modules/.bin")
"""Where the daemon's own installation has programs."""
_NOT_IN_VARIABLES = re.compile(r"[^A-Z0-9]")


@dataclass(frozen=True, slots=True)
class Language:
    """A language and its server."""

    id: str
    command: tuple[str, ...]
    install: str = "install it, or set another command"
    """What to do when the server is not there."""


_TYPESCRIPT = ("typescript-language-server", "--stdio")
_INSTALL_TYPESCRIPT = "npm install -g typescript-language-server typescript@5.9"
_KNOWN = {
    "python": Language("python", ("pylsp",), "pip install 'python-lsp-server[pyflakes,autopep8]'"),
    "typescript": Language("typescript", _TYPESCRIPT, _INSTALL_TYPESCRIPT),
    "javascript": Language("javascript", _TYPESCRIPT, _INSTALL_TYPESCRIPT),
}


class Languages:
    """The languages that there are: `commands` adds some, or other servers for those known, by name of variable."""

    def __init__(self, commands: Mapping[str, tuple[str, ...]]) -> None:
        self._commands = commands

    def get(self, language_id: str) -> Language:
        """Return a language. Raises `BadRequest`."""
        command = self._commands.get(_NOT_IN_VARIABLES.sub("_", language_id.upper()))
        if command is not None:
            return Language(language_id, command)
        try:
            return _KNOWN[language_id]
        except KeyError:
            names = ", ".join(sorted({*_KNOWN, *(name.lower() for name in self._commands)}))
            raise BadRequest(
                f"no language server for {language_id!r}, only for {names} (TOOLBOX_LSP_<LANGUAGE> adds one)"
            ) from None


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    options: Mapping[str, Any]
    """The `initializationOptions` that it gets."""


def find_program(name: str, path: str) -> str | None:
    """Return a program of `path` (as the variable PATH), or else the daemon's own; it blocks."""
    return shutil.which(name, path=_with_bundle(path))


def _with_bundle(path: str) -> str:
    return os.pathsep.join([path, *map(str, _BUNDLE)])


def plan(language: Language, project: str, env: Mapping[str, str]) -> Launch:
    """Find the server, the sandbox's first, then the daemon's; it blocks.

    Raises `StartFailed`, which names what to install, and `BadRequest` for a project that is no directory.
    """
    if not os.path.isdir(project):
        raise BadRequest(f"the project is not a directory: {project}")
    theirs = env.get("PATH", os.defpath)
    name, *arguments = language.command
    program = find_program(name, theirs)
    if program is None:
        raise StartFailed(f"the language server for {language.id} is not there: {name} ({language.install})")
    # Node for a server that is a script of the bundle.
    return Launch(
        (program, *arguments), {**env, "PATH": _with_bundle(theirs)}, _options(language, project, env, theirs, program)
    )


def _options(language: Language, project: str, env: Mapping[str, str], path: str, program: str) -> dict[str, Any]:
    if language.id == "python":
        found = [shutil.which(f"{project}/{name}/bin/python") for name in (".venv", "venv")]
        # Our server runs in our own Python, which is not the one that the project's libraries are in.
        if not any(found) and "VIRTUAL_ENV" not in env and Path(program).parent in _BUNDLE:
            found.append(shutil.which("python3", path=path))
        python = next(filter(None, found), None)
        return {"pylsp": {"plugins": {"jedi": {"environment": python}}}} if python else {}
    if language.id in ("typescript", "javascript"):
        return {
            "hostInfo": "sandbox-toolbox",
            # Nothing is downloaded behind the sandbox's back.
            "disableAutomaticTypingAcquisition": True,
            # Its second server would answer, knowing less, as long as the project is being loaded.
            "tsserver": {"useSyntaxServer": "never"},
        }
    return {}
