"""Which languages contexts can have: Python, and what kernels are installed in the sandbox."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from toolbox.children.environment import Environment
from toolbox.children.python import Pythons
from toolbox.errors import BadRequest
from toolbox.interpreter.models import Language

PYTHON = "python"


class KernelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A `kernel.json`, as Jupyter describes it."""

    argv: list[str]
    display_name: str = ""
    language: str = ""
    interrupt_mode: str = "signal"
    env: dict[str, str] = {}


class Languages:
    """Finds kernels where Jupyter would in the sandbox: `JUPYTER_PATH`, the user's, its Python's, the system's."""

    def __init__(self, environment: Environment, pythons: Pythons) -> None:
        self._environment = environment
        self._pythons = pythons

    async def all(self) -> list[Language]:
        """Return the languages there are, Python first."""
        python = await self._pythons.for_kernels()
        first = Language(name=PYTHON, display_name=f"Python ({python.origin})", language=PYTHON, path=python.path)
        found = await asyncio.to_thread(self._installed)
        return [
            first,
            *(
                Language(name=name, display_name=spec.display_name or name, language=spec.language.lower(), path=place)
                for name, (spec, place) in sorted(found.items())
                if name != PYTHON
            ),
        ]

    async def find(self, name: str) -> tuple[KernelSpec, str]:
        """Return a kernel by its name or language, and its directory. Raises `BadRequest`, naming what there is."""
        found = await asyncio.to_thread(self._installed)
        if name in found:
            return found[name]
        for spec, place in found.values():
            if spec.language.lower() == name.lower():
                return spec, place
        known = ", ".join([PYTHON, *sorted(found)])
        raise BadRequest(f"unsupported language: {name} (there are: {known})")

    def _installed(self) -> dict[str, tuple[KernelSpec, str]]:
        found: dict[str, tuple[KernelSpec, str]] = {}
        for directory in self._directories():
            for file in sorted(directory.glob("*/kernel.json")):
                try:
                    spec = msgspec.json.decode(file.read_bytes(), type=KernelSpec)
                except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
                    continue
                if spec.argv:
                    found.setdefault(file.parent.name.lower(), (spec, str(file.parent)))
        return found

    def _directories(self) -> list[Path]:
        env = self._environment.child()
        places = [*filter(None, env.get("JUPYTER_PATH", "").split(":"))]
        places.append(env.get("JUPYTER_DATA_DIR") or self._of_user(env))
        programs = (shutil.which(name, path=env.get("PATH")) for name in ("python3", "jupyter"))
        places += [str(Path(program).parent.parent / "share/jupyter") for program in programs if program]
        places += ["/usr/local/share/jupyter", "/usr/share/jupyter"]
        return [Path(place) / "kernels" for place in dict.fromkeys(places)]

    def _of_user(self, env: Mapping[str, str]) -> str:
        base = env.get("XDG_DATA_HOME") or f"{self._environment.home}/.local/share"
        return f"{base}/jupyter"


def command(spec: KernelSpec, directory: str, connection_file: str) -> list[str]:
    """Return the command that starts a kernel, its placeholders filled in."""
    return [
        word.replace("{connection_file}", connection_file).replace("{resource_dir}", directory) for word in spec.argv
    ]
