"""What is measured, and what the rows share to measure it."""

import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
    pid: int | None = None
    """The daemon's process, if it runs on this machine: then its memory is measured too."""

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


def in_turn(one: Callable[[int], object], other: Callable[[int], object], times: int = 9) -> tuple[float, float]:
    """Return the median durations of two actions in milliseconds, measured in turn: both feel what else goes on."""
    durations: tuple[list[float], list[float]] = ([], [])
    for number in range(times):
        for action, taken in zip((one, other), durations, strict=True):
            started = time.perf_counter()
            action(number)
            taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(durations[0]), statistics.median(durations[1])


class peak_growth_mb:  # noqa: N801 -- used like a function
    """Measures by how much the daemon's memory grew at most, in MB; None where its process cannot be seen."""

    def __init__(self, target: Target) -> None:
        self._pid = target.pid
        self.value: float | None = None

    def _status(self, field: str) -> int:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024

    def __enter__(self) -> Self:
        if self._pid is not None:
            Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # the peak is what it is now
            self._before = self._status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid is not None:
            self.value = (self._status("VmHWM") - self._before) / MB

    def figures(self, name: str) -> Figures:
        """Return the figure under a name, if there is one."""
        return {} if self.value is None else {name: max(0.0, self.value)}


@contextmanager
def folder(target: Target, client: Client) -> Iterator[str]:
    """Give a new directory in the sandbox, and remove it."""
    path = f"{target.directory}/bench-{uuid.uuid4().hex[:8]}"
    client.call("POST", "/files/folder", query={"path": path, "mode": "755"})
    try:
        yield path
    finally:
        client.call("DELETE", "/files", query={"path": path, "recursive": "true"})


def multipart(path: str, size: int) -> tuple[bytes, bytes, dict[str, str]]:
    """Return what comes before and after a file of `size` bytes that is uploaded, and the headers of the request."""
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


def upload(client: Client, path: str, content: bytes, times: int = 1) -> None:
    """Upload `content`, repeated `times` times."""
    head, tail, headers = multipart(path, len(content) * times)

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(times):
            yield content
        yield tail

    client.call("POST", "/files/bulk-upload", body=body(), headers=headers)


@contextmanager
def grove(target: Target, client: Client) -> Iterator[str]:
    """Give a directory of 200 directories of 100 files, 400 of them with a line that has `needle` in it."""
    script = (
        "for d in $(seq -w 200); do mkdir d$d; for f in $(seq -w 99); do echo 'hello world' > d$d/f$f.txt; done; "
        "printf 'hello\\nthe needle\\n' > d$d/f00.txt; done"
    )
    with folder(target, client) as path:
        client.execute(script, cwd=path, timeout=60)
        yield path


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


def read_until(connection: WebSocket, end: bytes) -> bytes:
    """Return what a terminal prints up to `end`."""
    text = b""
    while end not in text:
        text += connection.receive() or b""
    return text


@contextmanager
def started_desktop(client: Client) -> Iterator[None]:
    """Start the desktop, and stop it."""
    client.json("POST", "/computeruse/start", {})
    try:
        yield
    finally:
        client.json("POST", "/computeruse/stop", {})
