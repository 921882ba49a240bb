"""A daemon that goes on from a snapshot, of which others go on too."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALLOWED_SKIP, Daemon
from tests.interpreter.client import create, run
from toolbox.children import tree

SEED = "import random, numpy; kept = 1; random.seed(1); numpy.random.seed(1)"
DRAW = "random.random(), float(numpy.random.random())"
WHO = "import os; (os.getpid(), next(e[4:] for e in open('/proc/self/environ').read().split('\\0') if e[:4] == 'PWD='))"
"""The process, and the directory that it was started in: a spare one's is the work directory."""
_PROGRAM = """
import random, sys
from toolbox.incarnation import Incarnation
incarnation, random_of_one = Incarnation(), random.Random(1)
random.seed(1)
assert (incarnation.number, random.random()) == (0, random_of_one.random())
with open(sys.argv[1], "w") as file:
    file.write("another\\n")
assert (incarnation.number, incarnation.number) == (1, 1)
assert random.random() != random_of_one.random()
"""
_MOUNT = 'mount --bind "$1" /proc/sys/kernel/random/boot_id || exit 75; exec "$2" -c "$3" "$1"'


async def begin_another_life(daemon: Daemon) -> None:
    async with daemon.http.post("/init", json={}) as response:
        assert response.status == 200


async def test_contexts_go_on_with_other_random_numbers(daemon: Daemon) -> None:
    assert (await run(daemon, SEED)).of("error") == []
    expected = random.Random(1)
    first = (await run(daemon, DRAW)).value()
    assert first.startswith(f"({expected.random()!r}, 0.417022004702574")
    await begin_another_life(daemon)
    drawn = (await run(daemon, DRAW)).value()
    assert str(expected.random()) not in drawn
    assert "0.720324493442158" not in drawn  # what numpy draws second after this seed
    # Once: from then on programs seed them as they like, and what they had is there.
    assert (await run(daemon, f"random.seed(1); numpy.random.seed(1); kept, {DRAW}")).value() == f"(1, {first[1:]}"


async def test_spare_kernels_of_before_are_not_given_out(daemon: Daemon) -> None:
    await run(daemon, "1")
    (daemon.work_dir / "sub").mkdir()
    while len(kernels := _kernels()) < 2:  # the default context's, and a spare one
        await asyncio.sleep(0.05)
    await begin_another_life(daemon)
    while True:
        context = await create(daemon, cwd="sub")
        pid, started_in = eval((await run(daemon, WHO, context)).value())
        assert pid not in kernels
        if started_in == str(daemon.work_dir):
            break
        async with daemon.http.delete(f"/process/interpreter/context/{context}"):  # no spare one was ready yet
            pass


def _kernels() -> set[int]:
    """Return the processes of ours that run, or begin to run, kernels."""
    found = set()
    for pid in tree.direct_children():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"python_kernel/launch.py" in command:
            found.add(pid)
    return found


def test_another_boot_id_is_another_life(tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one\n")
    command = ["unshare", "--mount", "sh", "-c", _MOUNT, "sh", str(boot_id), sys.executable, _PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 75 or "unshare" in done.stderr:
        pytest.skip(f"{ALLOWED_SKIP}mounts are not permitted")
    assert done.returncode == 0, done.stderr
