"""`python -m bundle DIRECTORY`: makes the bundle out of this Python, this system's libc and this repository.

bin/       launchers: toolboxd, python3, and the programs of the dependencies
loader/    links to the loader, by the names of the programs
programs/  what the launchers start
lib/       shared libraries, the loader and libc among them; python3.x/, the standard library
packages/  the daemon and its dependencies
licences/  of what comes from the system
"""

import argparse
import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from bundle import libraries

_HERE = Path(__file__).parent
_ROOT = _HERE.parent
_EXTRAS = "controlplane,desktop,docker,interpreter,jwt,kubernetes,storage,telemetry"
_OLDEST_LIBC = (2, 35)
"""The first with C.UTF-8 built in; `--argv0` of the loader came two versions earlier."""
_LEFT_OUT = (
    # Tests, and what a server has no use for.
    *("test", "tests", "idlelib", "lib2to3", "pydoc_data", "tkinter", "turtledemo", "turtle.py", "__phello__"),
    *("curses", "distutils", "ensurepip", "config-3.*", "EXTERNALLY-MANAGED", "__pycache__"),
    *("site-packages", "dist-packages"),
    *("_ctypes_test.*", "_test*", "_tkinter.*", "_xx*", "xx*", "sitecustomize.py"),
    # For programs on a terminal, or of the licence of a library that only these need.
    *("_crypt.*", "_curses*", "_dbm.*", "_gdbm.*", "nis.*", "readline.*"),
)
_LEFT_OUT_OF_PACKAGES = (
    # What kernels do without: a debugger, completion, and a prompt.
    *("debugpy*", "jedi*", "parso*", "prompt_toolkit*", "wcwidth*"),
    # Manual pages, and a kernel's description that names the Python which was used here.
    "share",
    *("**/test", "**/tests"),
    # Classes for every call and object of Kubernetes, a third of the bundle: ours are generic calls with plain JSON.
    *("kubernetes_asyncio/client/api", "kubernetes_asyncio/client/models", "kubernetes_asyncio/leaderelection"),
)


class Impossible(Exception):
    """The bundle cannot be made here; the text says why."""


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="bundle", description="Make the relocatable bundle.")
    parser.add_argument("directory", type=Path, help="what to make; replaced if it is there")
    directory: Path = parser.parse_args().directory.absolute()
    try:
        _check_machine()
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as temporary:
            new = Path(temporary, "new")
            _make(new)
            if directory.exists():
                directory.rename(Path(temporary, "old"))
            new.rename(directory)
    except (Impossible, libraries.Missing) as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"bundle: {' '.join(map(str, error.cmd))}: exit code {error.returncode}", file=sys.stderr)
        return 1
    return 0


def _check_machine() -> None:
    version = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else None
    if version is None or tuple(map(int, version.split()[1].split(".")[:2])) < _OLDEST_LIBC:
        raise Impossible(f"needs Linux with glibc {'.'.join(map(str, _OLDEST_LIBC))} or newer, this is {version}")
    for tool in ("cc", "ldd", "strip"):
        if shutil.which(tool) is None:
            raise Impossible(f"needs the program {tool} (Debian: gcc, libc6-dev)")


def _make(bundle: Path) -> None:
    for name in ("bin", "loader", "programs", "lib", "licences"):
        (bundle / name).mkdir(parents=True)
    # Of the machine's Python only that and no more is taken: nothing that was installed into it.
    stdlib = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(stdlib, bundle / "lib" / stdlib.name, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    shutil.copy(_HERE / "sitecustomize.py", bundle / "lib" / stdlib.name)
    shutil.copy(Path(sys.executable).resolve(), bundle / "programs/python3")
    _install_packages(bundle / "packages")
    _move_programs(bundle)
    gathered = libraries.gather(bundle)
    # Libraries in packages stay as they came: what their builders did to some does not survive it.
    _run("strip", "--strip-debug", *(bundle / "programs").iterdir(), *(bundle / "lib").rglob("*.so*"))
    _add_launchers(bundle)
    _add_licences(bundle, gathered)
    compileall.compile_dir(
        bundle, quiet=1, maxlevels=50, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    _run("chmod", "-R", "u+w,a+rX", bundle)


def _install_packages(target: Path) -> None:
    """Install the daemon and what pyproject says it needs, as wheels of the locked versions."""
    with tempfile.TemporaryDirectory() as temporary:
        # A copy, because the build backend leaves its own files where it builds, and takes in what it finds there.
        source = Path(temporary, "source")
        source.mkdir()
        for path in _sources():
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, source / path.name)
        _run(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"),
            *("--target", target, "--constraint", _ROOT / "requirements-dev.txt", f"{source}[{_EXTRAS}]"),
        )
    for path in {path for pattern in _LEFT_OUT_OF_PACKAGES for path in target.glob(pattern)}:
        if path.exists():  # it may lie in another that is gone by now
            shutil.rmtree(path)
    _import_no_generated_classes(target / "kubernetes_asyncio/client")


def _import_no_generated_classes(client: Path) -> None:
    """Let the client of Kubernetes be imported without the classes that were left out."""
    (client / "models").mkdir()
    (client / "models/__init__.py").touch()
    package = client / "__init__.py"
    generated = re.compile(r"^from kubernetes_asyncio\.client\.(api|models)\..*\n", re.MULTILINE)
    text, removed = generated.subn("", package.read_text().partition("\n__all__")[0])
    if not removed:
        raise Impossible("kubernetes_asyncio imports its generated classes in another way")
    package.write_text(text + "\n")


def _sources() -> Iterator[Path]:
    with (_ROOT / "pyproject.toml").open("rb") as file:
        content = tomllib.load(file)
    yield _ROOT / "pyproject.toml"
    yield _ROOT / content["project"]["readme"]
    for name in content["project"]["license-files"]:
        yield _ROOT / name
    for pattern in content["tool"]["setuptools"]["packages"]["find"]["include"]:
        yield from (path for path in _ROOT.glob(pattern) if path.is_dir() and path.suffix != ".egg-info")


def _move_programs(bundle: Path) -> None:
    """Keep the binaries that packages bring; their scripts would name the Python that was used here."""
    brought = bundle / "packages/bin"
    if not brought.exists():
        return
    for path in brought.iterdir():
        if libraries.is_elf(path):
            path.rename(bundle / "programs" / path.name)
    shutil.rmtree(brought)


def _add_launchers(bundle: Path) -> None:
    launcher = bundle / "bin/toolboxd"
    _run(
        "cc", "-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-o", launcher, _HERE / "launcher.c"
    )
    loader = libraries.loader(bundle)
    for name in ("toolboxd", *(path.name for path in (bundle / "programs").iterdir())):
        if name != "toolboxd":
            shutil.copy(launcher, bundle / "bin" / name)
        (bundle / "loader" / name).symlink_to(f"../lib/{loader.name}")


def _add_licences(bundle: Path, gathered: list[Path]) -> None:
    """Add our licence, and what Debian or its like says about the licences of what was taken from it."""
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(_ROOT / name, bundle)
    if shutil.which("dpkg") is None:
        return
    taken = [str(path.resolve()) for path in (Path(sys.executable), *gathered)]
    # A package may know a file by the path that it had before /lib became /usr/lib. A Python that was built here is
    # from no package: its licence is in its library.
    names = [*taken, *(path.removeprefix("/usr") for path in taken)]
    found = subprocess.run(["dpkg", "-S", *names], capture_output=True, check=False, text=True).stdout
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${source:Package}\n"], capture_output=True, check=True, text=True
    ).stdout
    source = dict(line.split() for line in listed.splitlines())
    for package in {line.partition(":")[0] for line in found.splitlines()}:
        # Some packages have it from another of the same source, by a link that slim systems leave out.
        same = [package, *(name for name in source if source[name] == source[package])]
        texts = [path for name in same if (path := Path("/usr/share/doc", name, "copyright")).exists()]
        if not texts:
            raise Impossible(f"the licence of the package {package} is not on this system")
        shutil.copy(texts[0], bundle / "licences" / package)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
