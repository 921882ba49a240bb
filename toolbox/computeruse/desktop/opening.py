"""Opens things on the desktop: applications by command or name, files and URLs with what opens them."""

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser, Error
from pathlib import Path

from toolbox.children.environment import Environment
from toolbox.children.process import Child, Children
from toolbox.errors import BadRequest, NotFound

OPENERS = ("xdg-open", "exo-open")
BROWSERS = (
    "x-www-browser",
    "firefox",
    "firefox-esr",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "epiphany",
    "falkon",
    "midori",
)
WATCH_SECONDS = 1.0
"""How long an opener is watched for a failure."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_FIELD_CODE = re.compile(r"%[a-zA-Z]")
_CHROMIUMS = ("chromium", "chrome")


class Opener:
    """Starts what opens a target."""

    def __init__(self, children: Children, environment: Environment, work_dir: Path) -> None:
        self._children = children
        self._environment = environment
        self._work_dir = work_dir

    async def open(self, target: str, args: Sequence[str], env: Mapping[str, str]) -> Child:
        """Open `target` with the variables `env`. Raises `BadRequest`, `NotFound`."""
        if not target.strip() or "\0" in target + "".join(args):
            raise BadRequest("invalid target: a path, a URL or the name of an application is needed")
        command, is_opener = await asyncio.to_thread(self._command, target, list(args), env)
        errors = os.memfd_create("errors")
        try:
            child = self._children.spawn(command, cwd=str(self._work_dir), env=env, stderr=errors)
            if is_opener:
                await self._watch(child, target, errors)
        finally:
            os.close(errors)
        return child

    async def _watch(self, child: Child, target: str, errors: int) -> None:
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                exit_ = await child.wait()
        except TimeoutError:
            return
        if exit_.code != 0:
            said = (await asyncio.to_thread(os.pread, errors, 4096, 0)).decode("utf-8", "replace").strip()
            raise BadRequest(f"cannot open {target}: {said or 'no application is there for it'}")

    def _command(self, target: str, args: list[str], env: Mapping[str, str]) -> tuple[list[str], bool]:
        """Return the command that opens `target`, and whether it only hands it on. Blocks."""
        path = env.get("PATH", os.defpath)
        scheme = _SCHEME.match(target)
        if scheme and not Path(self._work_dir, target).exists():
            return self._url(target, scheme[1].lower(), args, path)
        if target.startswith("~/"):
            target = self._environment.home + target[1:]
        file = self._work_dir / target
        if file.is_file() and os.access(file, os.X_OK):
            return [str(file), *args], False
        if file.exists():
            return [_opener(path), str(file)], True
        if "/" in target:
            raise NotFound(f"no such file: {target}")
        if shutil.which(target, path=path):
            return [*_command_of(target), *args], False
        entry = _desktop_entry(target, env)
        if entry is None:
            raise NotFound(f"no application {target!r}: neither a command on the PATH nor a .desktop entry")
        return [*entry, *args], False

    def _url(self, target: str, scheme: str, args: list[str], path: str) -> tuple[list[str], bool]:
        if scheme not in ("http", "https"):
            return [_opener(path), target], True
        browser = next((name for name in BROWSERS if shutil.which(name, path=path)), None)
        if browser is None:
            raise NotFound("no web browser is installed (Debian packages firefox-esr, chromium)")
        return [*_command_of(browser), *args, target], False


def _command_of(program: str) -> list[str]:
    """Return the command of a program: as root Chromium starts without its own sandbox only."""
    real = Path(os.path.realpath(shutil.which(program) or program)).name
    is_chromium = any(name in real for name in _CHROMIUMS)
    return [program, "--no-sandbox"] if is_chromium and os.getuid() == 0 else [program]


def _opener(path: str) -> str:
    for name in OPENERS:
        if shutil.which(name, path=path):
            return name
    raise NotFound("nothing is there that opens files and URLs (Debian packages xdg-utils, exo-utils)")


def _desktop_entry(name: str, env: Mapping[str, str]) -> list[str] | None:
    """Return the command of a desktop entry, by its id or the name it shows; None when there is none."""
    wanted = name.removesuffix(".desktop").casefold()
    for file in _entries(env):
        parser = ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(file, "utf-8")
            entry = parser["Desktop Entry"]
            if wanted in (file.stem.casefold(), entry.get("Name", "").casefold()) and "Exec" in entry:
                return shlex.split(_FIELD_CODE.sub("", entry["Exec"]).replace("%%", "%"))
        except (Error, KeyError, ValueError, OSError):
            continue
    return None


def _entries(env: Mapping[str, str]) -> Iterator[Path]:
    home = env.get("XDG_DATA_HOME") or f"{env.get('HOME', '/')}/.local/share"
    for directory in (home, *(env.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")):
        yield from sorted(Path(directory, "applications").rglob("*.desktop"))
