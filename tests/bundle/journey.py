"""What the published SDK does with a sandbox: `python -m tests.bundle.journey UID`, with the exports of `toolboxd up`.

Fails when an answer is not the right one. The sandbox may be of any Linux: of its programs only `sh`, `env`, `id` and
what coreutils and busybox both have are used.
"""

import sys
import uuid

from daytona import CreateSandboxFromSnapshotParams, Daytona, DaytonaTimeoutError, Sandbox, SessionExecuteRequest


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
    use_interpreter(sandbox)
    sandbox.delete()
    assert list(daytona.list()) == []


def use_interpreter(sandbox: Sandbox) -> None:
    """Run code in the interpreter: variables stay whatever becomes of a run, and each context has its own."""
    interpreter = sandbox.code_interpreter
    assert interpreter.run_code("import os\nx = 20\nprint(x, os.environ['GREETING'])").stdout == "20 grüß dich\n"
    failed = interpreter.run_code("print('before')\nx / 0")
    assert (failed.stdout, failed.error and failed.error.name) == ("before\n", "ZeroDivisionError"), failed
    try:
        interpreter.run_code("x += 1\nwhile True: pass", timeout=1)
    except DaytonaTimeoutError:
        pass
    else:
        raise AssertionError("not interrupted")
    assert interpreter.run_code("print(x, flush=True)\n!echo $GREETING").stdout == "21\ngrüß dich\n"

    context = interpreter.create_context(cwd="/tmp")
    other = interpreter.run_code("import os\nprint(os.getcwd())\nx", context=context)
    assert (other.stdout, other.error and other.error.name) == ("/tmp\n", "NameError"), other
    interpreter.delete_context(context)


main(sys.argv[1])
