"""The bundle, and small root file systems of other Linux systems that it is copied into."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ALLOWED_SKIP

ROOT = Path(__file__).parents[2]
PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_UNAVAILABLE = 75
_END_SECONDS = 30
_GNU = ("bash", "coreutils", "dash")
_SYSTEMS = {
    "bullseye": ("bullseye", _GNU, "/opt/sandbox-toolbox"),
    "bookworm": ("bookworm", _GNU, "/srv/two words"),
    "trixie": ("trixie", _GNU, "/a:b;c"),
    # As on Alpine: no glibc, no bash, none of the GNU programs.
    "musl": ("bookworm", ("busybox-static", "musl"), "/.toolbox"),
}
"""What systems are made of, release and packages, and where the bundle goes."""
_ENTER = """
    mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" || exit 75
    root=$1 user=$2
    shift 2
    exec chroot --userspec="$user" "$root" "$@"
"""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the bundle as its user does, unless nothing changed since the last time, and return its folder."""
    with (tmp_path_factory.getbasetemp().parent / "bundle.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["make", "bundle", f"VENV={sys.prefix}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build/bundle"


@dataclass(frozen=True)
class RootFilesystem:
    """The root file system of another Linux, with the bundle in it."""

    name: str
    path: Path
    bundle: str
    """Where the bundle is, seen from inside."""

    def command(self, user: str, argv: Sequence[str]) -> list[str]:
        """Return the command that runs a program in it, as `uid:gid`, in the process that is started."""
        return ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self.path), user, *argv]

    def run(self, *argv: str, user: str = "0:0") -> str:
        """Run a program in it and return what it prints; it must succeed."""
        done = subprocess.run(self.command(user, argv), env=PLAIN, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    @contextmanager
    def daemon(self, *argv: str, user: str, env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
        """Run `toolboxd` in it; it must end well when asked, and leave nothing running."""
        log = self.path / "log"
        with log.open("w+") as errors:
            process = subprocess.Popen(
                self.command(user, [f"{self.bundle}/bin/toolboxd", *argv]),
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
                text=True,
            )
            try:
                yield process
            except BaseException:
                print(log.read_text())
                raise
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(_END_SECONDS)
                assert process.stdout is not None
                process.stdout.close()
        assert code == 0, log.read_text()
        assert self._left() == []

    def _left(self) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "root").readlink().is_relative_to(self.path):
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
        return found


def line(process: subprocess.Popen[str], start: str) -> str:
    """Return the rest of the next line on stdout, which must begin with `start`."""
    assert process.stdout is not None
    found = process.stdout.readline()
    assert found.startswith(start), f"not {start!r}: {found!r}"
    return found.removeprefix(start).strip()


def _add_musl_program(root: Path) -> None:
    """Add a program that needs the system's own loader and libc."""
    source = '#include <stdio.h>\nint main(void) { return puts("linked with musl") < 0; }\n'
    command = ["musl-gcc", "-x", "c", "-o", f"{root}/bin/linked-with-musl", "-"]
    subprocess.run(command, input=source, text=True, check=True)


@pytest.fixture(params=list(_SYSTEMS))
def root(request: pytest.FixtureRequest, bundle: Path, tmp_path: Path) -> Iterator[RootFilesystem]:
    """Return the root file system of each system, with the bundle in it; skip where this machine cannot have one."""
    if os.getuid() != 0:
        pytest.skip(f"{ALLOWED_SKIP}chroot needs root")
    suite, packages, place = _SYSTEMS[request.param]
    made = RootFilesystem(request.param, tmp_path / "root", place)
    script = str(ROOT / "tests/engines/root-filesystem")
    done = subprocess.run([script, suite, str(made.path), *packages], capture_output=True, text=True, check=False)
    if done.returncode == _UNAVAILABLE:
        pytest.skip(ALLOWED_SKIP + done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    made.path.chmod(0o755)  # whatever the umask of this process
    entered = subprocess.run(made.command("0:0", ["/bin/sh", "-c", ":"]), env=PLAIN, check=False)
    if entered.returncode == _UNAVAILABLE:
        pytest.skip(f"{ALLOWED_SKIP}mounts are not permitted")
    assert entered.returncode == 0
    if made.name == "musl":
        _add_musl_program(made.path)
    shutil.copytree(bundle, f"{made.path}{place}", symlinks=True)
    yield made
    shutil.rmtree(made.path)
