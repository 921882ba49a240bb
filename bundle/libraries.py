"""The shared libraries that a folder's programs need from the system, loader and libc included."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_LOADED_LATER = ("libgcc_s.so.1",)
"""What libc itself opens, when a thread is ended. (Names are looked up without further libraries: its parts for files
and DNS are built in.)"""
_NEEDED = re.compile(r"^\t(?:(?P<name>\S+) => )?(?P<path>/.*?) \(0x[0-9a-f]+\)$", re.MULTILINE)
_NOT_FOUND = re.compile(r"^\t(\S+) => not found$", re.MULTILINE)


class Missing(Exception):
    """A library that something needs is not on this machine."""


def is_elf(path: Path) -> bool:
    """Tell whether it is a program or a shared library."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def gather(folder: Path) -> list[Path]:
    """Copy into `lib` what the programs and libraries of the folder need from elsewhere; return where each was.

    Raises `Missing`.
    """
    found: dict[str, Path] = {}
    for path in _elf_files(folder):
        for needed in _needed_by(path):
            if not needed.is_relative_to(folder):
                found.setdefault(needed.name, needed)
    for name in _LOADED_LATER:
        found.setdefault(name, _opened(name))
    for name, path in found.items():
        shutil.copy(path, folder / "lib" / name)
    return list(found.values())


def loader(folder: Path) -> Path:
    """Return the loader among the gathered libraries."""
    [path] = [path for path in (folder / "lib").iterdir() if path.name.startswith(("ld-linux", "ld64.so"))]
    return path


def _elf_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if not path.is_symlink() and path.is_file() and is_elf(path):
            yield path


def _needed_by(path: Path) -> list[Path]:
    done = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return []  # static, or for another processor
    if missing := _NOT_FOUND.findall(done.stdout):
        raise Missing(f"{path} needs {', '.join(missing)}")
    return [Path(match["path"]) for match in _NEEDED.finditer(done.stdout)]


def _opened(name: str) -> Path:
    """Return the path of a library that the loader finds. Raises `Missing`."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        raise Missing(str(error)) from None
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.name == name:
            return path
    raise Missing(name)
