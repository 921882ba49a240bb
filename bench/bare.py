"""`python -m bench.bare http | aiohttp | send FILE | receive FILE`: the least that a server can do; prints its port."""

import os
import socket
import sys
from pathlib import Path

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n" + b'{"version":"v0.0"}'


def main() -> None:
    """Serve until the standard input ends or, of a file, until it has passed."""
    mode, *path = sys.argv[1:]
    if mode == "aiohttp":
        _serve_aiohttp()
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            if mode == "http":
                while b"\r\n\r\n" in connection.recv(65536):
                    connection.sendall(_ANSWER)
            elif mode == "send":
                with Path(path[0]).open("rb") as file:
                    connection.sendfile(file)
            else:
                _receive(connection, path[0])


def _receive(connection: socket.socket, path: str) -> None:
    buffer = memoryview(bytearray(256 * 1024))
    with Path(path).open("wb", buffering=0) as file:
        while count := connection.recv_into(buffer):
            file.write(buffer[:count])
    connection.sendall(b"done")


def _serve_aiohttp() -> None:
    from aiohttp import web

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": "v0.0"})

    app = web.Application()
    app.router.add_get("/version", version)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    print(os.getpid(), file=sys.stderr)
    web.run_app(app, sock=listener, print=None, handle_signals=True)


if __name__ == "__main__":
    main()
