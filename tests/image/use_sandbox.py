"""What a user of the published SDK does first; fails when an answer is not the right one."""

import sys

from daytona import Daytona

PYTHON = "/opt/sandbox-toolbox/bin/python3"


def main(uid: str) -> None:
    """Use one sandbox, whose commands are to run as `uid`."""
    content = bytes(range(256)) * 4096
    daytona = Daytona()
    sandbox = daytona.create()
    answer = sandbox.process.exec("id -u; command -v python3 git curl rg")
    expected = [uid, "/usr/bin/python3", "/usr/bin/git", "/usr/bin/curl", "/usr/bin/rg"]
    assert (answer.exit_code, answer.result.split()) == (0, expected), answer
    assert sandbox.process.exec("exit 3").exit_code == 3
    # The image's Python has no ipykernel: this runs in the daemon's own.
    assert sandbox.code_interpreter.run_code("import sqlite3, ssl, sys; x = 6").error is None
    assert sandbox.code_interpreter.run_code("print(x * 7, sys.executable)").stdout == f"42 {PYTHON}\n"
    sandbox.fs.upload_file(content, "data/bytes.bin")
    assert sandbox.process.exec("wc -c < data/bytes.bin").result.strip() == str(len(content))
    assert sandbox.fs.download_file("data/bytes.bin") == content
    sandbox.delete()
    assert list(daytona.list()) == []


main(sys.argv[1])
