"""Servers in cells of their own, and how to reach them there."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from . import cell

PORT = 2280
"""Where servers listen, each on a loopback interface that is its cell's alone."""
URL = f"http://localhost:{PORT}"
USER = "nobody"
"""Whom random commands run as."""
START_SECONDS = 60


class Network:
    """The network of a process: gives sockets that belong to it."""

    def __init__(self, pid: int) -> None:
        # Of one thread, which is then good for nothing else.
        self._inside = ThreadPoolExecutor(1, initializer=cell.enter_network, initargs=(pid,))

    def socket(self) -> socket.socket:
        """Return a new TCP socket."""
        return self._inside.submit(socket.socket, socket.AF_INET, socket.SOCK_STREAM).result()

    def close(self) -> None:
        """End the thread."""
        self._inside.shutdown()


class _Pool(HTTPConnectionPool):
    network: Network

    def _new_conn(self) -> HTTPConnection:
        connection = HTTPConnection("localhost", PORT)
        connection._new_conn = self._connected  # type: ignore[method-assign]
        return connection

    def _connected(self) -> socket.socket:
        found = self.network.socket()
        found.settimeout(60)
        try:
            found.connect(("127.0.0.1", PORT))
        except OSError:
            found.close()
            raise
        return found


class _Adapter(HTTPAdapter):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self._pool = _Pool("localhost", PORT)
        self._pool.network = network

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()


class Server:
    """A server in a cell."""

    def __init__(self, directory: Path, process: "subprocess.Popen[bytes]") -> None:
        self.directory = directory
        """All that it can write to."""
        self.process = process
        self.session = requests.Session()
        self.session.trust_env = False
        self.network: Network

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.directory / "log").read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Return once it answers."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        inside = _children(self.process.pid)
        if not inside or b"cell.py" in Path(f"/proc/{inside[0]}/cmdline").read_bytes():
            return False  # not in its own network yet
        if not hasattr(self, "network"):
            self.network = Network(inside[0])
            self.session.mount("http://", _Adapter(self.network))
        try:
            return self.session.get(f"{URL}/healthz", timeout=30).ok
        except requests.ConnectionError:
            return False

    def failures(self) -> list[dict[str, Any]]:
        """Return what the log says went wrong in the server itself."""
        records = [json.loads(line) for line in self.log.split("\n") if line.startswith('{"time"')]
        return [record for record in records if record["level"] in ("error", "critical")]

    def end(self) -> None:
        """Ask it to end, and make sure that it has."""
        self.session.close()
        if hasattr(self, "network"):
            self.network.close()
        for pid in _children(self.process.pid):
            os.kill(pid, signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()  # and with it all that is inside
            self.process.wait()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@contextmanager
def started(directory: Path, command: str, env: Mapping[str, str]) -> Iterator[Server]:
    """Run `toolboxd COMMAND` in a cell where nothing but `directory` can be written to."""
    unshare = shutil.which(cell.UNSHARE[0])
    assert unshare is not None
    directory.chmod(0o755)  # the workload user's directories lie below; those above are made anew in the cell
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TOOLBOX_", "DAYTONA_"))}
    program = (sys.executable, "-m", "toolbox", command, "--port", str(PORT), "--state-dir", str(directory / "state"))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [unshare, *cell.UNSHARE[1:], sys.executable, cell.__file__, str(directory), *program],
            cwd=directory,
            env={**environ, "TOOLBOX_SHELL": "/bin/bash", **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(directory, process)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()
