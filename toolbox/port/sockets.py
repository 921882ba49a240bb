"""The kernel's answer to which TCP ports are listened on, in all address families."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

_SOCK_DIAG = 4
_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_LISTEN = 10
_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI48x")
_SOURCE_PORT = struct.Struct(">4xH")
_BUFFER = 64 * 1024
_ANSWER_SECONDS = 5.0
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def listening_ports() -> set[int]:
    """Return every TCP port that somebody listens on, whatever the address (call it in a thread)."""
    try:
        return {port for family in (socket.AF_INET, socket.AF_INET6) for port in _ask_kernel(family)}
    except OSError:  # a kernel without sock_diag, a sandbox that forbids it
        return {port for table in _TABLES for port in read_table(table)}


def _ask_kernel(family: int) -> Iterator[int]:
    """Yield the listening ports of one family. Raises `OSError` where the kernel cannot be asked."""
    # Only listening sockets are walked: 30 microseconds, where the tables in /proc/net walk all connections (7 ms).
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asking:
        asking.settimeout(_ANSWER_SECONDS)
        question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN)
        asking.send(_HEADER.pack(_HEADER.size + len(question), _DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + question)
        while True:
            answer = asking.recv(_BUFFER)
            at = 0
            while at < len(answer):
                size, kind, *_ = _HEADER.unpack_from(answer, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", answer, at + _HEADER.size)[0], "sock_diag")
                yield _SOURCE_PORT.unpack_from(answer, at + _HEADER.size)[0]
                at += (size + 3) & ~3


def read_table(table: Path) -> set[int]:
    """Return the listening ports of one table of `/proc/net`; none for a table that is not there."""
    ports: set[int] = set()
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return ports
    for line in lines:
        _, local, _, state, *_ = line.split()
        if int(state, 16) == _LISTEN:
            ports.add(int(local.rpartition(":")[2], 16))
    return ports
