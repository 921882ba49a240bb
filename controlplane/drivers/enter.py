"""A program that runs another one with cgroups and mounts of its own: `enter.py JSON COMMAND...`.

JSON is `{"cgroups": [directory], "mounts": [[source, target]]}`. Mounts are seen by the command and what it starts, by
nobody else. It stays small: every start of a sandbox goes through it, before anything of ours is imported.
"""

import json
import os
import sys

_CLONE_NEWNS = 0x20000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000


def main() -> None:
    """Move, mount, and become the command."""
    wanted = json.loads(sys.argv[1])
    for directory in wanted["cgroups"]:
        with open(f"{directory}/cgroup.procs", "w") as file:  # noqa: PTH123 -- pathlib costs as much as all the rest
            file.write(str(os.getpid()))
    if wanted["mounts"]:
        _mount(wanted["mounts"])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 -- the program was started to do this


def _mount(mounts: list[list[str]]) -> None:
    import ctypes  # noqa: PLC0415 -- only who mounts has to wait for it

    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)

    check(libc.unshare(_CLONE_NEWNS), "unshare")
    # What the machine mounts later is still seen here; what is mounted here is not seen there.
    check(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "/")
    for source, target in mounts:
        os.makedirs(target, exist_ok=True)  # noqa: PTH103 -- it may lie in what was just mounted
        check(libc.mount(os.fsencode(source), os.fsencode(target), None, _MS_BIND | _MS_REC, None), target)


if __name__ == "__main__":
    main()
