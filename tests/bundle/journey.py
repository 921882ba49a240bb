"""What the published SDK does with a sandbox: `python -m tests.bundle.journey UID`, with the exports of `toolboxd up`.

Fails when an answer is not the right one. The sandbox may be of any Linux: of its programs only `sh`, `env`, `id` and
what coreutils and busybox both have are used.
"""

import sys
import uuid

from daytona import CreateSandboxFromSnapshotParams, Daytona, SessionExecuteRequest


def main(uid: str) -> None:
    """Use one sandbox, whose commands are to run as `uid`."""
    content = bytes(range(256)) * 4096
    daytona = Daytona()
    sandbox = daytona.create(CreateSandboxFromSnapshotParams(env_vars={"GREETING": "grüß dich"}))
    answer = sandbox.process.exec("id -u; echo $GREETING; exit 3")
    assert (answer.exit_code, answer.result) == (3, f"{uid}\ngrüß dich\n"), answer

    sandbox.fs.upload_file(content, "dätä/bytes.bin")
    assert sandbox.process.exec("wc -c < dätä/bytes.bin").result.strip() == str(len(content))
    assert sandbox.fs.download_file("dätä/bytes.bin") == content
    sandbox.fs.upload_file(b"a needle\n", "dätä/text")
    assert [(found.line, found.content) for found in sandbox.fs.find_files("dätä", "needle")] == [(1, "a needle")]

    sandbox.process.create_session("s")
    sandbox.process.execute_session_command("s", SessionExecuteRequest(command="cd /tmp; A=kept"))
    done = sandbox.process.execute_session_command("s", SessionExecuteRequest(command="pwd; echo $A >&2; (exit 4)"))
    assert (done.exit_code, done.stdout, done.stderr) == (4, "/tmp\n", "kept\n"), done

    terminal = sandbox.process.create_pty_session(id=f"t-{uuid.uuid4().hex[:8]}")
    terminal.send_input("echo $((6*7))$GREETING; exit 5\n")
    seen = b""

    def on_data(data: bytes) -> None:
        nonlocal seen
        seen += data

    assert terminal.wait(on_data=on_data).exit_code == 5, seen
    assert "42grüß dich" in seen.decode(), seen
    sandbox.delete()
    assert list(daytona.list()) == []


main(sys.argv[1])
