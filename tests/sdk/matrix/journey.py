"""One walk through a published Python SDK of any version: `python journey.py`, with nothing but that SDK installed.

Prints one JSON object: what was done -> null, the text of the error, or `absent` where this version has no such thing.
"""

import asyncio
import importlib
import json
import sys
import traceback
import uuid
from collections.abc import Callable
from typing import Any

sdk: Any = importlib.import_module(sys.argv[1])
"""`daytona`, or `daytona_sdk` as it was called once."""

DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4], label='a')\nplt.title('T')\nprint('drawn')\nplt.show()\n"


class Absent(Exception):
    """This version of the SDK has no such thing."""


def equal(found: Any, wanted: Any) -> None:
    """Fail unless both are the same."""
    if found != wanted:
        raise AssertionError(f"{found!r}, not {wanted!r}")


def has(thing: Any, name: str) -> Any:
    """Return an attribute of a thing. Raises `Absent`."""
    if not hasattr(thing, name):
        raise Absent
    return getattr(thing, name)


def listed(answer: Any) -> list[Any]:
    """Return what a list call found: a list, a page, an answer or an iterator, by version."""
    for name in ("items", "sessions"):
        answer = getattr(answer, name, answer)
    return list(answer)


class Journey:
    """The steps, in their order; each public method is one."""

    def __init__(self) -> None:
        self._daytona = sdk.Daytona()
        self._name = f"matrix-{uuid.uuid4().hex[:8]}"
        self._sandbox: Any = None

    def create(self) -> None:
        """Make a sandbox, and find it."""
        params = sdk.CreateSandboxFromSnapshotParams(env_vars={"GREETING": "hello"}, labels={"matrix": self._name})
        self._sandbox = self._daytona.create(params)
        equal(getattr(self._sandbox.state, "value", self._sandbox.state), "started")
        equal(self._daytona.get(self._sandbox.id).id, self._sandbox.id)
        if self._sandbox.id not in [each.id for each in listed(self._daytona.list())]:
            raise AssertionError("not listed")

    def execute(self) -> None:
        """Run commands."""
        answer = self._sandbox.process.exec("echo $GREETING; exit 3")
        equal((answer.exit_code, answer.result.rstrip()), (3, "hello"))
        answer = self._sandbox.process.exec("pwd; echo $A", cwd="/tmp", env={"A": "ü"})
        equal(answer.result.rstrip(), "/tmp\nü")

    def code_run(self) -> None:
        """Run a program, with a chart."""
        answer = self._sandbox.process.code_run(DRAW)
        equal((answer.exit_code, answer.result.rstrip()), (0, "drawn"))
        [chart] = answer.artifacts.charts
        equal((chart.title, chart.elements[0].label, len(chart.elements[0].points)), ("T", "a", 3))

    def files(self) -> None:
        """Upload, list, find, change and download."""
        fs = self._sandbox.fs
        fs.create_folder("data", "755")
        fs.upload_file(b"one\ntwo\n", "data/a.txt")
        fs.upload_files([sdk.FileUpload(b"\x00\xff" * 1000, "data/b.bin")])
        equal(sorted(each.name for each in fs.list_files("data")), ["a.txt", "b.bin"])
        equal(fs.download_file("data/b.bin"), b"\x00\xff" * 1000)
        equal([(each.line, each.content) for each in fs.find_files("data", "two")], [(2, "two")])
        fs.replace_in_files(["data/a.txt"], "two", "three")
        equal(fs.download_file("data/a.txt"), b"one\nthree\n")
        fs.set_file_permissions("data/a.txt", mode="600")
        fs.move_files("data/a.txt", "data/c.txt")
        equal(len(fs.search_files("data", "*.txt").files), 1)
        equal(fs.get_file_info("data/c.txt").size, 10)
        fs.delete_file("data/c.txt")

    def git(self) -> None:
        """Commit, in a repository of the sandbox."""
        git, process = self._sandbox.git, self._sandbox.process
        process.exec("git init -q -b main repo && echo 1 > repo/file")
        git.add("repo", ["file"])
        git.commit("repo", "first", "A", "a@example.com")
        equal(git.branches("repo").branches, ["main"])
        git.create_branch("repo", "more")
        process.exec("echo 2 > repo/file")
        status = git.status("repo")
        equal((status.current_branch, [each.name for each in status.file_status]), ("more", ["file"]))
        equal(process.exec("git log --format=%s", cwd="repo").result.rstrip(), "first")

    def session(self) -> None:
        """Keep a shell, and read what its commands wrote."""
        process = self._sandbox.process
        process.create_session("one")
        process.execute_session_command("one", sdk.SessionExecuteRequest(command="cd /tmp; A=1"))
        answer = process.execute_session_command("one", sdk.SessionExecuteRequest(command="pwd; echo $A; (exit 5)"))
        equal((answer.exit_code, getattr(answer, "stdout", None) or answer.output), (5, "/tmp\n1\n"))
        logs = process.get_session_command_logs("one", answer.cmd_id)
        equal(getattr(logs, "stdout", None) or getattr(logs, "output", logs), "/tmp\n1\n")
        equal(process.get_session_command("one", answer.cmd_id).exit_code, 5)
        equal([each.session_id for each in process.list_sessions()], ["one"])
        process.delete_session("one")

    def followed_logs(self) -> None:
        """Follow what a command writes while it runs."""
        process = self._sandbox.process
        out: list[str] = []
        err: list[str] = []
        follow = has(process, "get_session_command_logs_async")
        process.create_session("two")
        command = "for n in 1 2 3; do echo $n; sleep 0.05; done; echo e >&2"
        request = sdk.SessionExecuteRequest(command=command, run_async=True)
        started = process.execute_session_command("two", request)
        asyncio.run(follow("two", started.cmd_id, out.append, err.append))
        equal(("".join(out), "".join(err)), ("1\n2\n3\n", "e\n"))

    def pty(self) -> None:
        """Use a terminal."""
        create = has(self._sandbox.process, "create_pty_session")
        size = importlib.import_module(f"{sys.argv[1]}.common.pty").PtySize(cols=70, rows=20)
        handle, written = create(id="terminal", pty_size=size), bytearray()
        equal([each.id for each in listed(self._sandbox.process.list_pty_sessions())], ["terminal"])
        handle.send_input('echo "<$(stty size)>"; exit 7\n')
        ended = handle.wait(on_data=written.extend)
        equal((ended.exit_code, b"<20 70>" in written), (7, True))

    def interpreter(self) -> None:
        """Run code that shares variables."""
        interpreter = has(self._sandbox, "code_interpreter")
        interpreter.run_code("x = 41")
        answer = interpreter.run_code("print(x + 1)\n1 / 0")
        equal((answer.stdout, answer.error.name), ("42\n", "ZeroDivisionError"))
        context = interpreter.create_context(cwd="/")
        equal(interpreter.run_code("import os; print(os.getcwd())", context=context).stdout, "/\n")
        interpreter.delete_context(context)

    def lsp(self) -> None:
        """Ask a language server."""
        self._sandbox.fs.create_folder("project", "755")
        self._sandbox.fs.upload_file(b"class Foo:\n    pass\n", "project/m.py")
        root = f"{self._sandbox.get_work_dir()}/project"
        server = self._sandbox.create_lsp_server(sdk.LspLanguageId.PYTHON, root)
        server.start()
        server.did_open(f"{root}/m.py")
        equal([each.name for each in server.document_symbols(f"{root}/m.py")], ["Foo"])
        server.stop()

    def volume(self) -> None:
        """Make, find and delete a volume."""
        made = self._daytona.volume.get(self._name, create=True)
        equal(self._daytona.volume.get(self._name).id, made.id)
        if self._name not in [each.name for each in self._daytona.volume.list()]:
            raise AssertionError("not listed")
        self._daytona.volume.delete(made)

    def snapshots(self) -> None:
        """List them: there is one to begin with."""
        if not listed(has(self._daytona, "snapshot").list()):
            raise AssertionError("no snapshot")

    def computer_use(self) -> None:
        """Ask whether the desktop runs."""
        equal(has(self._sandbox, "computer_use").get_status().status, "inactive")

    def preview(self) -> None:
        """Ask for the URL of a port."""
        link = self._sandbox.get_preview_link(3000)
        if "3000" not in link.url or not link.token:
            raise AssertionError(link)

    def lifecycle(self) -> None:
        """Stop, start, and keep the files."""
        self._sandbox.fs.upload_file(b"kept", "kept")
        self._sandbox.set_autostop_interval(30)
        equal(self._sandbox.set_labels({"matrix": self._name, "more": "yes"})["more"], "yes")
        self._sandbox.stop()
        self._sandbox.start()
        equal(self._sandbox.fs.download_file("kept"), b"kept")

    def delete(self) -> None:
        """Delete the sandbox."""
        if self._sandbox is None:
            raise Absent
        self._daytona.delete(self._sandbox)


def attempt(step: Callable[[], None]) -> str | None:
    """Do a step, and tell how it went."""
    try:
        step()
    except Absent:
        return "absent"
    except Exception:  # noqa: BLE001 -- whatever it is, it is told
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    walk = Journey()
    steps = [name for name in vars(Journey) if not name.startswith("_")]
    print(json.dumps({name: attempt(getattr(walk, name)) for name in steps}))
