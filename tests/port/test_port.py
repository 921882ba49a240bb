"""Which ports are listened on, as the kernel says, and waiting for one."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Daemon
from toolbox.errors import RequestTimeout
from toolbox.port import sockets
from toolbox.port.ports import Ports


@contextmanager
def listener(address: str = "127.0.0.1", *, listening: bool = True) -> Iterator[socket.socket]:
    """Bind a free port, and listen unless told otherwise."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.bind((address, 0))
        if listening:
            bound.listen()
        yield bound


def port_of(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


async def listed(daemon: Daemon) -> list[int]:
    async with daemon.http.get("/port") as response:
        assert response.status == 200
        answer = await response.json()
    assert answer.keys() == {"ports"}
    return list(answer["ports"])


async def in_use(daemon: Daemon, port: object) -> bool:
    async with daemon.http.get(f"/port/{port}/in-use") as response:
        assert response.status == 200, await response.text()
        answer = await response.json()
    assert answer.keys() == {"isInUse"}
    return bool(answer["isInUse"])


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "127.9.9.9", "::1", "::"])
async def test_a_listener_on_any_address_shows_until_it_closes(daemon: Daemon, address: str) -> None:
    with listener(address) as bound:
        port = port_of(bound)
        assert port in await listed(daemon)
        assert await in_use(daemon, port)
    assert port not in await listed(daemon)
    assert not await in_use(daemon, port)


async def test_ports_are_sorted_once_each_and_not_the_daemons_own(daemon: Daemon) -> None:
    own = int(daemon.url.rpartition(":")[2])
    with listener() as four, socket.socket(socket.AF_INET6) as six:
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        six.bind(("::1", port_of(four)))
        six.listen()
        ports = await listed(daemon)
        assert ports == sorted(set(ports))
        assert port_of(four) in ports
    assert own not in ports
    assert await in_use(daemon, own)


async def test_a_bound_or_connected_socket_does_not_listen(daemon: Daemon) -> None:
    with (
        listener(listening=False) as bound,
        listener() as other,
        socket.create_connection(other.getsockname()) as client,
    ):
        found = await listed(daemon)
        assert port_of(bound) not in found
        assert port_of(client) not in found
        assert not await in_use(daemon, port_of(bound))


@pytest.mark.parametrize(
    "port",
    ["0", "65536", "-1", "abc", "02280", "+2280", "%202280", "1e3", "2280.0", "٢٢٨٠", "99999999999999999999", "1%00"],
)
@pytest.mark.parametrize("question", ["in-use", "wait"])
async def test_what_is_no_port_number_is_refused(daemon: Daemon, port: str, question: str) -> None:
    async with daemon.http.get(f"/port/{port}/{question}") as response:
        assert response.status == 400
        answer = await response.json()
    assert (answer["code"], answer["statusCode"]) == ("BAD_REQUEST", 400)


@pytest.mark.parametrize("port", [1, 2999, 10000, 65535])
async def test_the_whole_range_is_answered(daemon: Daemon, port: int) -> None:
    assert await in_use(daemon, port) in (True, False)


async def test_waiting_ends_when_somebody_listens(daemon: Daemon) -> None:
    with listener(listening=False) as bound:
        waiting = [
            asyncio.ensure_future(daemon.http.get(f"/port/{port_of(bound)}/wait", params={"timeout": "60"}))
            for _ in range(5)
        ]
        await asyncio.wait(waiting, timeout=0.1)
        assert not any(each.done() for each in waiting)
        bound.listen()
        for each in waiting:
            async with await each as response:
                assert response.status == 200
                assert await response.json() == {"isInUse": True}
        async with daemon.http.get(f"/port/{port_of(bound)}/wait?timeout=0") as response:
            assert response.status == 200


@pytest.mark.parametrize("timeout", ["0", "0.05"])
async def test_waiting_in_vain_is_408(daemon: Daemon, timeout: str) -> None:
    with listener(listening=False) as bound:
        async with daemon.http.get(f"/port/{port_of(bound)}/wait", params={"timeout": timeout}) as response:
            assert response.status == 408
            answer = await response.json()
        assert str(port_of(bound)) in answer["message"]
    assert answer["code"] == "REQUEST_TIMEOUT"


@pytest.mark.parametrize("timeout", ["-1", "nan", "inf", "soon", "3601", "1e9"])
async def test_an_impossible_timeout_is_refused(daemon: Daemon, timeout: str) -> None:
    async with daemon.http.get("/port/3000/wait", params={"timeout": timeout}) as response:
        assert response.status == 400


class Table:
    """A table of ports that the test writes, and that counts who looks."""

    def __init__(self) -> None:
        self.ports: set[int] = set()
        self.looks = 0

    def look(self) -> set[int]:
        self.looks += 1
        return set(self.ports)


async def test_nobody_looks_when_nobody_waits() -> None:
    table = Table()
    async with Ports(table.look) as ports:
        waiting = asyncio.ensure_future(ports.wait_until_listening(80, 60))
        while table.looks < 4:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        while not ports.idle:
            await asyncio.sleep(0)
        seen = table.looks
        await asyncio.sleep(0.2)
        assert table.looks == seen
        # And the next one is served again.
        waiting = asyncio.ensure_future(ports.wait_until_listening(81, 60))
        while table.looks < seen + 2:
            await asyncio.sleep(0)
        table.ports.add(81)
        await asyncio.wait_for(waiting, 10)


async def test_each_waiter_has_its_own_port_and_time() -> None:
    table = Table()
    async with Ports(table.look) as ports:
        long = asyncio.ensure_future(ports.wait_until_listening(80, 60))
        other = asyncio.ensure_future(ports.wait_until_listening(81, 60))
        with pytest.raises(RequestTimeout):
            await ports.wait_until_listening(80, 0.02)
        table.ports.add(81)
        await asyncio.wait_for(other, 10)
        assert not long.done()
        table.ports.add(80)
        await asyncio.wait_for(long, 10)


async def test_a_client_that_leaves_ends_the_wait(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def wait(*_: object) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    monkeypatch.setattr(Ports, "wait_until_listening", wait)
    asking = asyncio.ensure_future(daemon.http.get("/port/3000/wait"))
    await asyncio.wait_for(entered.wait(), 10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(left.wait(), 10)


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1145 1
   1: 0100007F:0BB9 0100007F:AB87 06 00000000:00000000 03:00000EDE 00000000     0        0 0 3
   2: 00000000000000000000000001000000:0BBA 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 1
"""


def test_tables_of_a_kernel_that_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "tcp"
    table.write_text(TABLE)

    def refuse(*_: object) -> None:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(sockets, "_ask_kernel", refuse)
    monkeypatch.setattr(sockets, "_TABLES", (table, tmp_path / "not there"))
    assert sockets.listening_ports() == {3000, 3002}


def test_both_ways_of_asking_agree() -> None:
    with listener() as four, listener("::1") as six:
        tables = {port for table in sockets._TABLES for port in sockets.read_table(table)}
        assert {port_of(four), port_of(six)} <= sockets.listening_ports()
        assert {port_of(four), port_of(six)} <= tables


async def test_documented(daemon: Daemon) -> None:
    async with aiohttp.ClientSession() as http, http.get(daemon.url + "/openapi.json") as response:
        paths = (await response.json())["paths"]
    assert paths["/port"]["get"]["operationId"] == "GetPorts"
    assert paths["/port/{port}/in-use"]["get"]["operationId"] == "IsPortInUse"
    assert paths["/port/{port}/in-use"]["get"]["parameters"][0]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 65535,
    }
