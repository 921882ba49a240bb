"""The rows of the speed card. Each is a function of a `Target` that returns figures by name.

Milliseconds are medians. A row cleans up after itself, so that rows can be run again and in any order.
"""

import io
import json
import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.client import Client
from bench.websocket import WebSocket

Figures = dict[str, float]
MB = 1_000_000


@dataclass(frozen=True)
class Target:
    """What is measured: a toolbox, and a directory in its sandbox that rows may write below."""

    url: str
    token: str | None
    directory: str

    def client(self) -> Client:
        """Return a new connection."""
        return Client(self.url, self.token)


def median_ms(action: Callable[[], object], times: int) -> float:
    """Return the median duration of `action` in milliseconds, after two calls to warm up."""
    action()
    action()
    durations = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        durations.append(time.perf_counter() - started)
    return statistics.median(durations) * 1000


@contextmanager
def folder(target: Target, client: Client) -> Iterator[str]:
    """Give a new directory in the sandbox, and remove it."""
    path = f"{target.directory}/bench-{uuid.uuid4().hex[:8]}"
    client.call("POST", "/files/folder", query={"path": path, "mode": "755"})
    try:
        yield path
    finally:
        client.call("DELETE", "/files", query={"path": path, "recursive": "true"})


def version(target: Target) -> Figures:
    """GET /version."""
    client = target.client()
    return {"version_ms": median_ms(lambda: client.call("GET", "/version"), 1000)}


def execute(target: Target) -> Figures:
    """One `echo hi` after another."""
    client = target.client()
    return {"execute_ms": median_ms(lambda: client.execute("echo hi"), 200)}


def execute_rate(target: Target) -> Figures:
    """`echo hi` from 16 clients at once, per second."""
    each = 50

    def work() -> None:
        client = target.client()
        for _ in range(each):
            client.execute("echo hi")

    threads = [threading.Thread(target=work) for _ in range(16)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"execute_per_s": 16 * each / (time.perf_counter() - started)}


def execute_large(target: Target) -> Figures:
    """A command that prints 50 MB."""
    client = target.client()
    command = "head -c 50000000 /dev/zero | tr '\\0' x"
    return {"execute_50mb_s": median_ms(lambda: client.execute(command), 3) / 1000}


def _multipart(path: str, size: int) -> tuple[bytes, bytes, dict[str, str]]:
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files[0].path"\r\n\r\n{path}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="files[0].file"; filename="f"\r\n\r\n'
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + size + len(tail)),
    }
    return head, tail, headers


def _upload(client: Client, path: str, content: bytes, times: int = 1) -> None:
    """Upload `content`, repeated `times` times."""
    head, tail, headers = _multipart(path, len(content) * times)

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(times):
            yield content
        yield tail

    client.call("POST", "/files/bulk-upload", body=body(), headers=headers)


def transfer_large(target: Target) -> Figures:
    """256 MB up, down, and down as multipart."""
    client, chunk, buffer = target.client(), bytes(range(256)) * 4096, bytearray(1 << 20)
    times = 256
    size = len(chunk) * times / MB
    with folder(target, client) as path:
        file = f"{path}/large"
        up = median_ms(lambda: _upload(client, file, chunk, times), 3)
        down = median_ms(lambda: client.call("GET", "/files/download", query={"path": file}, into=buffer), 3)
        body = json.dumps({"paths": [file]})
        bulk = median_ms(lambda: client.call("POST", "/files/bulk-download", body=body, into=buffer), 3)
    return {
        "upload_mb_per_s": size / up * 1000,
        "download_mb_per_s": size / down * 1000,
        "bulk_download_mb_per_s": size / bulk * 1000,
    }


def transfer_small(target: Target) -> Figures:
    """1 kB up and down."""
    client, content = target.client(), b"x" * 1000
    with folder(target, client) as path:
        head, tail, headers = _multipart(f"{path}/small", len(content))
        body = head + content + tail
        up = median_ms(lambda: client.call("POST", "/files/bulk-upload", body=io.BytesIO(body), headers=headers), 200)
        down = median_ms(lambda: client.call("GET", "/files/download", query={"path": f"{path}/small"}), 200)
    return {"upload_1kb_ms": up, "download_1kb_ms": down}


def listing(target: Target) -> Figures:
    """A directory of 10,000 files."""
    client = target.client()
    with folder(target, client) as path:
        client.execute("seq 1 10000 | xargs touch", cwd=path)
        return {"list_10000_ms": median_ms(lambda: client.call("GET", "/files", query={"path": path}), 5)}


@contextmanager
def _grove(target: Target, client: Client) -> Iterator[str]:
    """Give a directory of 200 directories of 100 files, 400 of them with a line that has `needle` in it."""
    script = (
        "for d in $(seq -w 200); do mkdir d$d; for f in $(seq -w 99); do echo 'hello world' > d$d/f$f.txt; done; "
        "printf 'hello\\nthe needle\\n' > d$d/f00.txt; done"
    )
    with folder(target, client) as path:
        client.execute(script, cwd=path, timeout=60)
        yield path


def search_names(target: Target) -> Figures:
    """By name: all of 20,000 files, and 200 of them."""
    client = target.client()
    with _grove(target, client) as path:

        def search(pattern: str) -> None:
            client.call("GET", "/files/search", query={"path": path, "pattern": pattern})

        every, some = median_ms(lambda: search("*.txt"), 9), median_ms(lambda: search("f00.txt"), 9)
        return {"search_20000_ms": every, "search_20000_for_200_ms": some}


def find_text(target: Target) -> Figures:
    """A text in 200 of 20,000 files."""
    client = target.client()
    with _grove(target, client) as path:
        query = {"path": path, "pattern": "needle"}
        return {"find_20000_ms": median_ms(lambda: client.call("GET", "/files/find", query=query), 9)}


def replace_text(target: Target) -> Figures:
    """A text in each of 1,000 files."""
    client = target.client()
    words = ["one", "two"]
    with folder(target, client) as path:
        client.execute("for f in $(seq 1000); do echo 'a one, and one more' > $f; done", cwd=path)
        files = [f"{path}/{number}" for number in range(1, 1001)]

        def swap() -> None:
            client.json("POST", "/files/replace", {"files": files, "pattern": words[0], "newValue": words[1]})
            words.reverse()

        return {"replace_1000_ms": median_ms(swap, 9)}


def upload_many(target: Target) -> Figures:
    """1,000 files of 4 kB in one request."""
    client, content = target.client(), b"x" * 4000
    boundary = uuid.uuid4().hex
    with folder(target, client) as path:
        body = b"".join(
            _part(boundary, f"files[{number}].path", f"{path}/{number}".encode())
            + _part(boundary, f"files[{number}].file", content, filename=True)
            for number in range(1000)
        )
        body += f"--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        upload = median_ms(lambda: client.call("POST", "/files/bulk-upload", body=body, headers=headers), 5)
        return {"upload_1000_ms": upload}


def _part(boundary: str, name: str, content: bytes, *, filename: bool = False) -> bytes:
    more = '; filename="f"' if filename else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def archive(target: Target) -> Figures:
    """A directory of 1,000 files of 4 kB as a tar stream, down and up."""
    client = target.client()
    with folder(target, client) as path:
        client.execute("mkdir src; for f in $(seq 1000); do head -c 4000 /dev/zero > src/$f; done", cwd=path)
        query = {"path": f"{path}/src"}
        content = client.call("GET", "/files/archive", query=query)
        down = median_ms(lambda: client.call("GET", "/files/archive", query=query), 5)
        into = {"path": f"{path}/dst"}
        up = median_ms(lambda: client.call("POST", "/files/archive", query=into, body=content), 5)
        return {"archive_1000_down_ms": down, "archive_1000_up_ms": up}


def run_python(client: Client, code: str) -> Any:
    """Run a Python program."""
    return client.json("POST", "/process/code-run", {"code": code, "language": "python"})


def run_program(target: Target) -> Figures:
    """A Python program that prints, and, in turn, the bare interpreter it runs in."""
    client = target.client()
    code = "print('hi')"
    python = run_python(client, "import sys; print(sys.executable)")["result"].strip()
    command = [python, "-u", "-c", code]
    bare, ours = [], []
    for _ in range(5):
        bare.append(median_ms(lambda: subprocess.run(command, stdout=subprocess.PIPE, check=True), 20))
        ours.append(median_ms(lambda: run_python(client, code), 20))
    return {"bare_python_ms": statistics.median(bare), "code_run_ms": statistics.median(ours)}


def run_chart(target: Target) -> Figures:
    """A Python program that shows one chart, and one that saves the same figure to memory."""
    client = target.client()
    draw = "import io, matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\nplt.plot([1, 2, 4])\n"
    show, save = draw + "plt.show()", draw + "plt.savefig(io.BytesIO(), bbox_inches='tight')\nplt.close()"
    if not run_python(client, show).get("artifacts"):
        return {}  # no matplotlib there
    chart = median_ms(lambda: run_python(client, show), 7)
    return {"code_run_chart_ms": chart, "code_run_savefig_ms": median_ms(lambda: run_python(client, save), 7)}


def _interpret(target: Target, code: str, context: str | None = None) -> int:
    """Run code to its end; return how many bytes the messages had."""
    connection = WebSocket(target.url, target.token, "/process/interpreter/execute")
    connection.send(json.dumps({"code": code, **({"contextId": context} if context else {})}).encode())
    count, last = 0, b""
    while (payload := connection.receive()) is not None:
        count, last = count + len(payload), payload
    connection.close()
    if b'"completed"' not in last:
        raise RuntimeError(f"{code}: {last!r}")
    return count


def _new_context(target: Target, client: Client) -> str:
    """Make a context and run its first code."""
    context: str = client.json("POST", "/process/interpreter/context", {})["id"]
    _interpret(target, "print(1)", context)
    return context


def interpreter_run(target: Target) -> Figures:
    """Code in the default context, one run after another, each with a connection of its own."""
    return {"interpreter_run_ms": median_ms(lambda: _interpret(target, "print(1)"), 200)}


def interpreter_contexts(target: Target) -> Figures:
    """New contexts up to the end of their first run: one, with time for a spare kernel before it, and five at once."""
    client, durations, made = target.client(), [], []
    made.append(_new_context(target, client))
    for _ in range(7):
        time.sleep(1)
        started = time.perf_counter()
        made.append(_new_context(target, client))
        durations.append((time.perf_counter() - started) * 1000)
    time.sleep(1)
    started = time.perf_counter()
    threads = [threading.Thread(target=lambda: made.append(_new_context(target, target.client()))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    burst = (time.perf_counter() - started) * 1000
    for context in made:
        client.call("DELETE", f"/process/interpreter/context/{context}")
    return {"interpreter_context_ms": statistics.median(durations), "interpreter_burst_of_5_ms": burst}


def interpreter_output(target: Target) -> Figures:
    """100 MB printed in lines of 100 bytes, and in blocks."""
    figures = {}
    for name, code in (
        ("lines", "for _ in range(1_000_000): print('x' * 99)"),
        ("blocks", "for _ in range(100): print('x' * 999_999)"),
    ):
        started = time.perf_counter()
        _interpret(target, code)
        figures[f"interpreter_{name}_mb_s"] = 100 / (time.perf_counter() - started)
    return figures


@contextmanager
def terminal(target: Target) -> Iterator[WebSocket]:
    """Give a connection to a new terminal, and end it."""
    client, name = target.client(), f"bench-{uuid.uuid4().hex[:8]}"
    client.json("POST", "/process/pty", {"id": name})
    connection = WebSocket(target.url, target.token, f"/process/pty/{name}/connect")
    try:
        yield connection
    finally:
        connection.close()
        client.call("DELETE", f"/process/pty/{name}")


def pty_echo(target: Target) -> Figures:
    """One typed character, until it is shown."""
    with terminal(target) as connection:
        connection.send(b"exec sh -c \"stty raw -echo; echo read''y; exec cat\"\n")
        connection.receive_until(b"ready\n")

        def type_one() -> None:
            connection.send(b"x")
            connection.receive_until(b"x")

        return {"pty_echo_ms": median_ms(type_one, 500)}


def pty_throughput(target: Target) -> Figures:
    """100 MB printed to a terminal."""
    with terminal(target) as connection:
        script = b"stty raw -echo; echo read''y; read x; head -c 100000000 /dev/zero | tr '\\0' x; echo do''ne; read x"
        connection.send(b'exec sh -c "%s"\n' % script)
        connection.receive_until(b"ready\n")
        started = time.perf_counter()
        connection.send(b"\n")
        count = connection.receive_until(b"done\n")
        return {"pty_mb_per_s": count / MB / (time.perf_counter() - started)}


@contextmanager
def session(target: Target) -> Iterator[tuple[Callable[..., Any], Callable[[str], WebSocket]]]:
    """Give two functions of a new session: one runs a command, one starts and follows it."""
    client, name = target.client(), f"bench-{uuid.uuid4().hex[:8]}"
    client.json("POST", "/process/session", {"sessionId": name})

    def run(command: str, *, run_async: bool = False) -> Any:
        return client.json("POST", f"/process/session/{name}/exec", {"command": command, "runAsync": run_async})

    def follow(command: str) -> WebSocket:
        command_id = run(command, run_async=True)["cmdId"]
        path = f"/process/session/{name}/command/{command_id}/logs?follow=true"
        return WebSocket(target.url, target.token, path)

    try:
        yield run, follow
    finally:
        client.call("DELETE", f"/process/session/{name}")


def session_execute(target: Target) -> Figures:
    """`echo hi` in a session, waited for."""
    with session(target) as (run, _):
        return {"session_execute_ms": median_ms(lambda: run("echo hi"), 200)}


def session_follow(target: Target) -> Figures:
    """From starting a command to its first followed byte, connection included; and 500 MB followed."""
    durations = []
    for _ in range(30):
        with session(target) as (run, follow):
            run("true")
            started = time.perf_counter()
            connection = follow("echo hi; read x")
            connection.receive()
            durations.append(time.perf_counter() - started)
            connection.close()
    with session(target) as (_, follow):
        started = time.perf_counter()
        connection = follow("yes | head -c 500000000; echo; echo done")
        count = connection.receive_until(b"done\n")
        return {
            "session_first_byte_ms": statistics.median(durations) * 1000,
            "session_follow_mb_per_s": count / MB / (time.perf_counter() - started),
        }


_COMMIT = "git -c user.name=n -c user.email=e commit -q -m m"


def git_reads(target: Target) -> Figures:
    """The state of a clean work tree of 20,000 files, also compared to git alone, and the branches."""
    client = target.client()
    with _grove(target, client) as path:
        client.execute(
            f"git init -q && git add . && {_COMMIT} && for n in $(seq 20); do git branch b$n; done", cwd=path
        )
        query = {"path": path}
        script = "git status --porcelain=v2 --branch -z --untracked-files=all"
        ours_ms, native_ms = _in_turn(
            lambda _: client.call("GET", "/git/status", query=query), lambda _: client.execute(script, cwd=path)
        )
        branches = median_ms(lambda: client.call("GET", "/git/branches", query=query), 200)
        return {
            "git_status_20000_ms": ours_ms,
            "git_status_20000_to_native": ours_ms / native_ms,
            "git_branches_ms": branches,
        }


def git_clone(target: Target) -> Figures:
    """A repository of 5,000 commits over loopback HTTP, also compared to git alone."""
    client = target.client()
    history = "".join(
        f"commit refs/heads/main\ncommitter n <e> {1_700_000_000 + number} +0000\ndata 7\nmessage\n"
        f"M 644 inline d{number % 50}/f{number % 400}\ndata {len(text)}\n{text}\n"
        for number in range(5000)
        for text in [f"the content of version {number}\n" * 20]
    )
    server = (Path(__file__).parent.parent / "tests/git/http_server.py").read_bytes()
    with folder(target, client) as path, session(target) as (run, follow):
        _upload(client, f"{path}/history", history.encode())
        _upload(client, f"{path}/server.py", server)
        client.execute("git init -q --bare r.git && git -C r.git fast-import --quiet < history", cwd=path, timeout=60)
        run(f"cd {path}")
        connection = follow("exec python3 server.py .")
        url = "http" + (connection.receive() or b"").decode().partition("http")[2].strip() + "r.git"
        ours_ms, native_ms = _in_turn(
            lambda number: client.json("POST", "/git/clone", {"url": url, "path": f"{path}/ours{number}"}),
            lambda number: client.execute(f"git clone -q {url} {path}/native{number}"),
        )
        connection.close()
        return {"git_clone_5000_ms": ours_ms, "git_clone_5000_to_native": ours_ms / native_ms}


def _in_turn(one: Callable[[int], object], other: Callable[[int], object], times: int = 9) -> tuple[float, float]:
    """Return the median durations of two actions in milliseconds, measured in turn: both feel what else goes on."""
    durations: tuple[list[float], list[float]] = ([], [])
    for number in range(times):
        for action, taken in zip((one, other), durations, strict=True):
            started = time.perf_counter()
            action(number)
            taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(durations[0]), statistics.median(durations[1])


# Speaks to a language server of its own, started as the one of the daemon in the same directory was.
_ALONE = r"""
import json, os, pathlib, statistics, subprocess, time
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")[:-1]
        if b"pylsp" in b" ".join(words) and (process / "cwd").readlink() == pathlib.Path.cwd():
            break
    except OSError:
        pass
server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
uri = pathlib.Path("m.py").absolute().as_uri()
def send(**message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    server.stdin.flush()
def ask(method, **params):
    send(id=1, method=method, params=params)
    while True:
        size = 0
        while line := server.stdout.readline().strip():
            if line.lower().startswith(b"content-length:"):
                size = int(line[15:])
        body = server.stdout.read(size)
        if b'"id":1' in body.replace(b" ", b""):
            return
ask("initialize", processId=None, rootUri=pathlib.Path.cwd().as_uri(), capabilities={})
send(method="initialized", params={})
text = pathlib.Path("m.py").read_text()
item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
send(method="textDocument/didOpen", params={"textDocument": item})
print("started", flush=True)
while input():
    started = time.perf_counter()
    ask("textDocument/completion", textDocument={"uri": uri}, position={"line": 1, "character": 2})
    print("took", time.perf_counter() - started, "s", flush=True)
"""


def completions(target: Target) -> Figures:
    """Warm completions of a string's methods by python-lsp-server, and what the daemon adds to them."""
    client = target.client()
    with folder(target, client) as path, terminal(target) as connection:
        _upload(client, f"{path}/m.py", b"x = ''\nx.")
        _upload(client, f"{path}/alone.py", _ALONE.encode())
        which = {"languageId": "python", "pathToProject": path}
        client.json("POST", "/lsp/start", which)
        place = {**which, "uri": "file://m.py", "position": {"line": 1, "character": 2}}
        connection.send(f"cd {path}; stty -echo; python3 alone.py\n".encode())
        _read_until(connection, b"started")
        ours, alone = [], []
        for _ in range(40):
            started = time.perf_counter()
            client.json("POST", "/lsp/completions", place)
            ours.append(time.perf_counter() - started)
            connection.send(b"x\n")
            alone.append(float(_read_until(connection, b" s").rpartition(b"took")[2].split()[0]))
        client.json("POST", "/lsp/stop", which)
        ours_ms, alone_ms = (statistics.median(durations[5:]) * 1000 for durations in (ours, alone))
        return {"completions_ms": ours_ms, "completions_beyond_the_server_ms": ours_ms - alone_ms}


def _read_until(connection: WebSocket, end: bytes) -> bytes:
    """Return what a terminal prints up to `end`."""
    text = b""
    while end not in text:
        text += connection.receive() or b""
    return text


def desktop(target: Target) -> Figures:
    """The desktop started, asked about, and stopped."""
    client, starts, stops = target.client(), [], []
    for _ in range(7):
        started = time.perf_counter()
        client.json("POST", "/computeruse/start", {})
        starts.append(time.perf_counter() - started)
        status = median_ms(lambda: client.call("GET", "/computeruse/process-status"), 100)
        started = time.perf_counter()
        client.json("POST", "/computeruse/stop", {})
        stops.append(time.perf_counter() - started)
    return {
        "desktop_start_ms": statistics.median(starts) * 1000,
        "desktop_start_least_ms": min(starts) * 1000,
        "desktop_stop_ms": statistics.median(stops) * 1000,
        "desktop_status_ms": status,
    }


def accessibility(target: Target) -> Figures:
    """The whole accessibility tree of a desktop with an editor, how many nodes it has, and a search in it."""
    client = target.client()
    client.call("POST", "/computeruse/start")
    everything = {"scope": "all", "limit": 5000}
    text = {"scope": "all", "role": "text", "states": ["multi_line", "showing"]}

    def find(filters: dict[str, Any]) -> list[Any]:
        return client.json("POST", "/computeruse/a11y/find", filters)["matches"] or []

    with session(target) as (run, _):
        run("mousepad --disable-server", run_async=True)
        while not find(text):
            time.sleep(0.1)
        figures = {
            "a11y_nodes": float(len(find(everything))),
            "a11y_tree_ms": median_ms(lambda: client.call("GET", "/computeruse/a11y/tree", query={"scope": "all"}), 50),
            "a11y_find_ms": median_ms(lambda: find(text), 50),
        }
    client.call("POST", "/computeruse/stop")
    return figures


def mouse(target: Target) -> Figures:
    """Move, click, and where the pointer is; the desktop is started for it if there is none, and stays."""
    client = target.client()
    client.json("POST", "/computeruse/start", {})
    place = {"x": 200, "y": 200}
    return {
        "mouse_position_ms": median_ms(lambda: client.call("GET", "/computeruse/mouse/position"), 200),
        "mouse_move_ms": median_ms(lambda: client.json("POST", "/computeruse/mouse/move", place), 200),
        "mouse_click_ms": median_ms(lambda: client.json("POST", "/computeruse/mouse/click", place), 200),
    }


def keyboard(target: Target) -> Figures:
    """A chord, 100 characters of which 15 need Shift, and 10 that no key has."""
    client = target.client()
    client.json("POST", "/computeruse/start", {})
    text, foreign = "The quick brown Fox! " * 5, "日本語テスト漢字入力"
    return {
        "hotkey_ms": median_ms(lambda: client.json("POST", "/computeruse/keyboard/hotkey", {"keys": "ctrl+b"}), 100),
        "type_100_ms": median_ms(lambda: client.json("POST", "/computeruse/keyboard/type", {"text": text}), 50),
        "type_10_unicode_ms": median_ms(
            lambda: client.json("POST", "/computeruse/keyboard/type", {"text": foreign}), 10
        ),
    }


@contextmanager
def started_desktop(client: Client) -> Iterator[None]:
    """Start the desktop, and stop it."""
    client.json("POST", "/computeruse/start", {})
    try:
        yield
    finally:
        client.json("POST", "/computeruse/stop", {})


def window_list(target: Target) -> Figures:
    """The windows of the desktop as it comes, and how many they are; and the monitors."""
    client = target.client()
    with started_desktop(client):
        return {
            "windows": json.loads(client.call("GET", "/computeruse/display/windows"))["count"],
            "windows_ms": median_ms(lambda: client.call("GET", "/computeruse/display/windows"), 200),
            "displays_ms": median_ms(lambda: client.call("GET", "/computeruse/display/info"), 200),
        }


_SCREENSHOT = "/computeruse/screenshot"
_JPEG = {"format": "jpeg", "quality": "80"}


def screenshots(target: Target) -> Figures:
    """The whole screen as PNG and as JPEG, and a region of 800 x 600."""
    client = target.client()
    region = {"x": "100", "y": "100", "width": "800", "height": "600"}
    with started_desktop(client):
        return {
            "screenshot_ms": median_ms(lambda: client.call("GET", _SCREENSHOT), 50),
            "screenshot_region_ms": median_ms(lambda: client.call("GET", f"{_SCREENSHOT}/region", query=region), 50),
            "screenshot_jpeg_ms": median_ms(lambda: client.call("GET", f"{_SCREENSHOT}/compressed", query=_JPEG), 50),
        }


def screenshot_rate(target: Target) -> Figures:
    """JPEG one after another, per second; and how long other requests take meanwhile, at 30 of them a second."""
    client = target.client()
    with started_desktop(client):
        single = median_ms(lambda: client.call("GET", f"{_SCREENSHOT}/compressed", query=_JPEG), 100)
        idle = _version_p99_ms(target, 2)
        ended = threading.Event()

        def shoot() -> None:
            due = time.perf_counter()
            while not ended.is_set():
                client.call("GET", f"{_SCREENSHOT}/compressed", query=_JPEG)
                due += 1 / 30
                time.sleep(max(0, due - time.perf_counter()))

        thread = threading.Thread(target=shoot)
        thread.start()
        busy = _version_p99_ms(target, 5)
        ended.set()
        thread.join()
    return {
        "screenshot_jpeg_per_s": 1000 / single,
        "version_p99_ms": idle,
        "version_p99_at_30_screenshots_per_s_ms": busy,
    }


def _version_p99_ms(target: Target, seconds: float) -> float:
    """Return what 99 of 100 requests for nothing stay below: how late the event loop comes to them."""
    client, durations, end = target.client(), [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        client.call("GET", "/version")
        durations.append(time.perf_counter() - started)
        time.sleep(0.002)
    return statistics.quantiles(durations, n=100)[-1] * 1000


def recording(target: Target) -> Figures:
    """A recording of the desktop, started and stopped, and what ffmpeg takes of a processor meanwhile."""
    client = target.client()
    client.json("POST", "/computeruse/start", None)
    starts, stops, loads = [], [], []
    try:
        for _ in range(7):
            started = time.perf_counter()
            begun = client.json("POST", "/computeruse/recordings/start", {"label": "bench"})
            starts.append((time.perf_counter() - started) * 1000)
            before = _ffmpeg_seconds(client)
            time.sleep(2)
            loads.append((_ffmpeg_seconds(client) - before) / 2 * 100)
            started = time.perf_counter()
            client.json("POST", "/computeruse/recordings/stop", {"id": begun["id"]})
            stops.append((time.perf_counter() - started) * 1000)
            client.call("DELETE", f"/computeruse/recordings/{begun['id']}")
    finally:
        client.json("POST", "/computeruse/stop", None)
    return {
        "recording_start_ms": statistics.median(starts),
        "recording_stop_ms": statistics.median(stops),
        "recording_cpu_percent": statistics.median(loads),
    }


def _ffmpeg_seconds(client: Client) -> float:
    """Return the processor time that every ffmpeg of the sandbox has taken."""
    script = "awk '$2 == \"(ffmpeg)\" { ticks += $14 + $15 } END { print ticks / 100 }' /proc/[0-9]*/stat 2>/dev/null"
    return float(client.execute(script)["result"])


ROWS: tuple[Callable[[Target], Figures], ...] = (
    version,
    execute,
    execute_rate,
    execute_large,
    transfer_large,
    transfer_small,
    listing,
    search_names,
    find_text,
    replace_text,
    upload_many,
    archive,
    run_program,
    run_chart,
    interpreter_run,
    interpreter_contexts,
    interpreter_output,
    session_execute,
    session_follow,
    pty_echo,
    pty_throughput,
    git_reads,
    git_clone,
    completions,
    desktop,
    accessibility,
    mouse,
    keyboard,
    screenshots,
    screenshot_rate,
    recording,
    window_list,
)
