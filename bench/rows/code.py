"""Git and language servers."""

import statistics
import time
from pathlib import Path

from bench.target import Figures, Target, folder, grove, in_turn, median_ms, read_until, session, terminal, upload

_COMMIT = "git -c user.name=n -c user.email=e commit -q -m m"


def git_reads(target: Target) -> Figures:
    """The state of a clean work tree of 20,000 files, also compared to git alone, and the branches."""
    client = target.client()
    with grove(target, client) as path:
        client.execute(
            f"git init -q && git add . && {_COMMIT} && for n in $(seq 20); do git branch b$n; done", cwd=path
        )
        query = {"path": path}
        script = "git status --porcelain=v2 --branch -z --untracked-files=all"
        ours_ms, native_ms = in_turn(
            lambda _: client.call("GET", "/git/status", query=query), lambda _: client.execute(script, cwd=path)
        )
        branches = median_ms(lambda: client.call("GET", "/git/branches", query=query), 200)
        return {
            "git_status_20000_ms": ours_ms,
            "git_status_native_ms": native_ms,
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
    server = (Path(__file__).parents[2] / "tests/git/http_server.py").read_bytes()
    with folder(target, client) as path, session(target) as (run, follow):
        upload(client, f"{path}/history", history.encode())
        upload(client, f"{path}/server.py", server)
        client.execute("git init -q --bare r.git && git -C r.git fast-import --quiet < history", cwd=path, timeout=60)
        run(f"cd {path}")
        connection = follow("exec python3 server.py .")
        url = "http" + (connection.receive() or b"").decode().partition("http")[2].strip() + "r.git"
        ours_ms, native_ms = in_turn(
            lambda number: client.json("POST", "/git/clone", {"url": url, "path": f"{path}/ours{number}"}),
            lambda number: client.execute(f"git clone -q {url} {path}/native{number}"),
        )
        connection.close()
        return {"git_clone_5000_ms": ours_ms, "git_clone_5000_to_native": ours_ms / native_ms}


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
        upload(client, f"{path}/m.py", b"x = ''\nx.")
        upload(client, f"{path}/alone.py", _ALONE.encode())
        which = {"languageId": "python", "pathToProject": path}
        client.json("POST", "/lsp/start", which)
        place = {**which, "uri": "file://m.py", "position": {"line": 1, "character": 2}}
        connection.send(f"cd {path}; stty -echo; python3 alone.py\n".encode())
        read_until(connection, b"started")
        ours, alone = [], []
        for _ in range(40):
            started = time.perf_counter()
            client.json("POST", "/lsp/completions", place)
            ours.append(time.perf_counter() - started)
            connection.send(b"x\n")
            alone.append(float(read_until(connection, b" s").rpartition(b"took")[2].split()[0]))
        client.json("POST", "/lsp/stop", which)
        ours_ms, alone_ms = (statistics.median(durations[5:]) * 1000 for durations in (ours, alone))
        return {"completions_ms": ours_ms, "completions_beyond_the_server_ms": ours_ms - alone_ms}
