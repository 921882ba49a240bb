"""Leaves a sandbox and finds it: `python -m tests.image.use_compose leave` prints its id, `... find ID` has it."""

import sys

from daytona import Daytona


def leave() -> None:
    """Make a sandbox with a file."""
    sandbox = Daytona().create()
    sandbox.fs.upload_file(b"kept", "file")
    print(sandbox.id)


def find(sandbox_id: str) -> None:
    """Start the sandbox in the upgraded image; the file is there, and the log was written."""
    sandbox = Daytona().get(sandbox_id)
    sandbox.start()
    assert sandbox.fs.download_file("file") == b"kept"
    answer = sandbox.process.exec("cat /etc/upgraded; ls /state/*.log")
    assert answer.result == "yes\n/state/toolboxd.log\n", answer


if sys.argv[1] == "leave":
    leave()
else:
    find(sys.argv[2])
