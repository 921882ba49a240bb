"""The rows of the speed card. Each is a function of a `Target` that returns figures by name.

Milliseconds are medians. A row cleans up after itself, so that rows can be run again and in any order.
"""

import io
import json
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    session_execute,
    session_follow,
    pty_echo,
    pty_throughput,
)
