"""A git server: `git http-backend` behind HTTP or HTTPS, some of its repositories behind a password.

What is below `private/` needs the login user:secret word; `forbidden/` is refused, `broken/` fails, `stalled/` never
answers, `stalled-pack/` answers the first request only, and `elsewhere/` redirects to `private/` under another name.
"""

import base64
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, BinaryIO

USERNAME, PASSWORD = "user", "secret word/@:"


class GitServer(ThreadingHTTPServer):
    """Serves the bare repositories below `root`."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, root: Path, certificate: Path | None = None, *, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.host = host
        self.root = root
        self.stopping = threading.Event()
        self.stalled = threading.Event()
        self.logins: list[tuple[str, str]] = []
        """Host and authorization header of each request that had one."""
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme = "http" if certificate is None else "https"

    def url(self, name: str, *, host: str = "", userinfo: str = "") -> str:
        """Return the URL of a repository."""
        return f"{self.scheme}://{userinfo}{host or self.host}:{self.server_address[1]}/{name}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients of these tests go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GitServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        place = path.strip("/").partition("/")[0]
        login = self.headers.get("Authorization")
        if login:
            self.server.logins.append((self.headers["Host"], login))
        if place == "stalled" or (place == "stalled-pack" and self.command == "POST"):
            self.server.stalled.set()
            self.server.stopping.wait(100)
            self.close_connection = True
        elif place == "elsewhere":
            target = path.replace("/elsewhere/", "/private/", 1)
            host = self.headers["Host"].replace("127.0.0.1", "localhost")
            self._refuse(302, ("Location", f"http://{host}{target}?{query}"))
        elif place == "forbidden":
            self._refuse(403)
        elif place == "broken":
            self._refuse(500)
        elif place == "private" and login != _basic(USERNAME, PASSWORD):
            self._refuse(401, ("WWW-Authenticate", 'Basic realm="git"'))
        else:
            self._run_git(path.replace("/stalled-pack/", "/", 1), query)

    def _refuse(self, status: int, *headers: tuple[str, str]) -> None:
        for _ in self._body():
            pass
        self.send_response(status)
        for name, value in (("Content-Length", "0"), *headers):
            self.send_header(name, value)
        self.end_headers()

    def _run_git(self, path: str, query: str) -> None:
        variables = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_USER": USERNAME,
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.receivepack",
            "GIT_CONFIG_VALUE_0": "true",
        }
        with subprocess.Popen(
            ["git", "http-backend"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables
        ) as backend:
            assert backend.stdin is not None
            assert backend.stdout is not None
            feeder = threading.Thread(target=self._feed, args=(backend.stdin,))
            feeder.start()
            try:
                self._relay(backend.stdout)
            finally:
                backend.stdout.close()
                feeder.join()

    def _feed(self, stdin: BinaryIO) -> None:
        try:
            stdin.writelines(self._body())
            stdin.close()
        except OSError:
            self.close_connection = True

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        elif left := int(self.headers.get("Content-Length", "0")):
            yield self.rfile.read(left)

    def _relay(self, stdout: IO[bytes]) -> None:
        headers = []
        status = 200
        while line := stdout.readline().decode().strip():
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := stdout.read1(65536):  # type: ignore[attr-defined]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@contextmanager
def serve(root: Path, certificate: Path | None = None, *, host: str = "127.0.0.1") -> Iterator[GitServer]:
    """Run a server in threads of this process."""
    with GitServer(root, certificate, host=host) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    with GitServer(Path(sys.argv[1])) as main:
        print(main.url(""), flush=True)
        main.serve_forever()
