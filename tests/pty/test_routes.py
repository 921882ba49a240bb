"""Every route of `/process/pty`, and every way to use it wrongly."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.conftest import Daemon
from tests.pty.conftest import CREATE, EXIT_CONTROL, Connect, call
from toolbox.children.tree import read_stat


def envs(variables: object) -> str:
    """Return the subprotocol that carries variables."""
    text = variables if isinstance(variables, bytes) else json.dumps(variables).encode()
    return "X-Daytona-Pty-Envs~" + base64.urlsafe_b64encode(text).rstrip(b"=").decode()


async def test_create_describe_list_delete(daemon: Daemon) -> None:
    body = {"id": "p 1", "cwd": "sub", "envs": {"FOO": "bar"}, "cols": 120, "rows": 40}
    (daemon.work_dir / "sub").mkdir()
    assert await call(daemon, "POST", "/process/pty", 201, body) == {"sessionId": "p 1"}
    info = await call(daemon, "GET", "/process/pty/p%201")
    assert await call(daemon, "GET", "/process/pty") == {"sessions": [info]}
    assert Path(f"/proc/{info.pop('processId')}/cwd").resolve() == daemon.work_dir / "sub"
    assert info.pop("createdAt").endswith("Z")
    assert info == {
        "id": "p 1",
        "cwd": str(daemon.work_dir / "sub"),
        "envs": {"TERM": "xterm-256color", "FOO": "bar"},
        "cols": 120,
        "rows": 40,
        "active": True,
        "lazyStart": False,
    }
    assert await call(daemon, "DELETE", "/process/pty/p%201") == {"message": "PTY session deleted"}
    assert await call(daemon, "GET", "/process/pty") == {"sessions": []}


async def test_what_is_not_given_has_defaults(daemon: Daemon) -> None:
    await call(
        daemon, "POST", "/process/pty", 201, {"id": "p", "cols": 0, "rows": None, "cwd": "", "envs": {"TERM": "x"}}
    )
    info = await call(daemon, "GET", "/process/pty/p")
    assert (info["cols"], info["rows"], info["cwd"]) == (80, 24, str(daemon.work_dir))
    assert info["envs"] == {"TERM": "x"}


BAD_IDS = ["a/b", "../x", "..", ".", "a\0b", "a\nb", "\x1b[2J", "x" * 129, "create-connect", ""]
BAD_BODIES: list[dict[str, Any]] = [
    *({"id": each} for each in BAD_IDS),
    {},
    {"id": 7},
    {"id": "p", "cols": 1001},
    {"id": "p", "rows": 100_000},
    {"id": "p", "cols": -1},
    {"id": "p", "cols": 80.5},
    {"id": "p", "cwd": "/no/such/place"},
    {"id": "p", "cwd": "/etc/passwd"},
    {"id": "p", "cwd": "a\0b"},
    {"id": "p", "envs": {"1A": "x"}},
    {"id": "p", "envs": {"A": "x\0"}},
    {"id": "p", "envs": {"A": 1}},
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body)[:40])
async def test_what_cannot_be_created(daemon: Daemon, body: dict[str, Any]) -> None:
    error = await call(daemon, "POST", "/process/pty", 400, body)
    assert error["source"] == "DAYTONA_DAEMON"
    assert error["code"] in ("BAD_REQUEST", "INVALID_REQUEST_BODY")
    assert await call(daemon, "GET", "/process/pty") == {"sessions": []}


@pytest.mark.parametrize("body", [body for body in BAD_BODIES if body != {"id": 7}], ids=lambda body: repr(body)[:40])
async def test_what_cannot_be_created_is_refused_before_the_upgrade(daemon: Daemon, body: dict[str, Any]) -> None:
    query = {name: value for name, value in body.items() if name != "envs"}
    protocols = [EXIT_CONTROL, *([envs(body["envs"])] if "envs" in body else [])]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await daemon.http.ws_connect(f"/process/pty/{CREATE}?{urlencode(query)}", protocols=protocols)
    assert refusal.value.status == 400
    assert await call(daemon, "GET", "/process/pty") == {"sessions": []}


@pytest.mark.parametrize(
    "token", ["X-Daytona-Pty-Envs~!", "X-Daytona-Pty-Envs~e", envs([]), envs(b"{"), envs({"A": None})]
)
async def test_variables_that_cannot_be_read(daemon: Daemon, token: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await daemon.http.ws_connect(f"/process/pty/{CREATE}?id=p", protocols=[token])
    assert refusal.value.status == 400


async def test_ids_are_taken_once(daemon: Daemon, connect: Connect) -> None:
    async def create() -> int:
        async with daemon.http.post("/process/pty", json={"id": "same"}) as response:
            return response.status

    async def create_connect() -> int:
        try:
            async with connect(CREATE, id="same"):
                return 201
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    statuses = await asyncio.gather(*(create() for _ in range(5)), *(create_connect() for _ in range(5)))
    assert sorted(statuses) == [201] + [409] * 9
    error = await call(daemon, "POST", "/process/pty", 409, {"id": "same"})
    assert (error["code"], "same" in error["message"]) == ("CONFLICT", True)


async def test_unknown_terminals(daemon: Daemon, connect: Connect) -> None:
    for name in ("nope", "..%2Fetc", "%00", "x" * 300):
        assert (await call(daemon, "GET", f"/process/pty/{name}", 404))["code"] == "NOT_FOUND"
        await call(daemon, "DELETE", f"/process/pty/{name}", 404)
        await call(daemon, "POST", f"/process/pty/{name}/resize", 410, {"cols": 1, "rows": 1})
        async with connect(name, EXIT_CONTROL) as pty:
            code, reason = await pty.end()
        assert (code, reason) == (1008, "failed to connect to PTY session")
        assert pty.controls == [{"status": "error", "error": pty.controls[0]["error"]}]
    async with connect("nope", offset=0) as pty:
        await pty.end()
    assert pty.controls[0]["error"] == "Failed to connect to PTY session: PTY session nope not found"


async def test_websocket_routes_need_an_upgrade(daemon: Daemon) -> None:
    for path in ("create-connect?id=p", "create-connect", "p/connect"):
        assert (await call(daemon, "GET", f"/process/pty/{path}", 400))["code"] == "BAD_REQUEST"
    assert await call(daemon, "GET", "/process/pty") == {"sessions": []}


@pytest.mark.parametrize("offset", ["-1", "x", "999999999"])
async def test_offsets_that_do_not_exist(daemon: Daemon, offset: str) -> None:
    await call(daemon, "POST", "/process/pty", 201, {"id": "p"})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await daemon.http.ws_connect(f"/process/pty/p/connect?offset={offset}")
    assert refusal.value.status == 400


async def test_resize(daemon: Daemon, connect: Connect) -> None:
    async with connect(CREATE, id="p", cols=100, rows=30) as pty:
        await pty.run("stty size", "30 100\r\n")
        await pty.run("sh -c \"trap 'stty size; exit' WINCH; echo rea''dy; while :; do sleep 0.05; done\"", "ready\r\n")
        info = await call(daemon, "POST", "/process/pty/p/resize", 200, {"cols": 132, "rows": 43})
        assert (info["cols"], info["rows"]) == (132, 43)
        await pty.until("43 132\r\n")
        for size in ({}, {"cols": 10}, {"cols": 0, "rows": 1}, {"cols": 1001, "rows": 1}, {"cols": 1, "rows": 100_000}):
            await call(daemon, "POST", "/process/pty/p/resize", 400, size)
        await call(daemon, "POST", "/process/pty/p/resize", 200, {"cols": 1000, "rows": 1})
        await pty.run("stty size", "1 1000\r\n")
        await pty.type("exit\n")
        await pty.end()
    error = await call(daemon, "POST", "/process/pty/p/resize", 410, {"cols": 10, "rows": 10})
    assert error["code"] == "GONE"


async def test_a_lazy_terminal_starts_with_its_first_client(daemon: Daemon, connect: Connect) -> None:
    await call(daemon, "POST", "/process/pty", 201, {"id": "lazy", "lazyStart": True})
    await call(daemon, "POST", "/process/pty/lazy/resize", 200, {"cols": 70, "rows": 20})
    info = await call(daemon, "GET", "/process/pty/lazy")
    assert (info["active"], info["lazyStart"], "processId" in info) == (False, True, False)
    async with connect("lazy") as pty:
        assert await pty.connected() == 0
        await pty.run("stty size", "20 70\r\n")
        info = await call(daemon, "GET", "/process/pty/lazy")
        assert (info["active"], info["lazyStart"], "processId" in info) == (True, True, True)
    await call(daemon, "POST", "/process/pty", 201, {"id": "never", "lazyStart": True})
    await call(daemon, "DELETE", "/process/pty/never")


async def test_a_lazy_terminal_that_cannot_start_says_so(daemon: Daemon) -> None:
    place = daemon.work_dir / "gone"
    place.mkdir()
    await call(daemon, "POST", "/process/pty", 201, {"id": "lazy", "lazyStart": True, "cwd": "gone"})
    place.rmdir()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await daemon.http.ws_connect("/process/pty/lazy/connect")
    assert refusal.value.status == 400
    place.mkdir()
    async with daemon.http.ws_connect("/process/pty/lazy/connect") as ws:
        assert (await ws.receive()).type is WSMsgType.TEXT


async def test_create_connect_takes_size_place_and_variables(daemon: Daemon, connect: Connect) -> None:
    place = daemon.work_dir / "a b&c"
    place.mkdir()
    protocols = ("X-Daytona-SDK-Version~0.226.1", EXIT_CONTROL, envs({"FOO": "ü x", "TERM": "dumb"}))
    async with connect(CREATE, *protocols, id="ü", cols=99, rows=9, cwd=str(place)) as pty:
        assert pty.ws.protocol == protocols[0]
        assert await pty.connected() == 0
        await pty.run('echo "<$PWD $FOO $TERM $(stty size)>"', f"<{place} ü x dumb 9 99>")
    assert (await call(daemon, "GET", f"/process/pty/{quote('ü')}"))["cols"] == 99


async def test_deleting_kills_the_whole_tree(daemon: Daemon, connect: Connect) -> None:
    async with connect(CREATE, EXIT_CONTROL, id="p") as pty, connect("p") as other:
        tree = "trap '' HUP TERM; setsid sleep 1000 & echo $! >> pids; sleep 1000 & echo $! >> pids"
        await pty.run(f"({tree}); echo st''arted", "started")
        deleted, *ends = await asyncio.gather(call(daemon, "DELETE", "/process/pty/p"), pty.end(), other.end())
    assert deleted == {"message": "PTY session deleted"}
    assert ends == [(1011, {"exitCode": 137, "exitReason": "SIGKILL"})] * 2
    pids = (daemon.work_dir / "pids").read_text().split()
    assert len(pids) == 2
    assert not [pid for pid in pids if (stat := read_stat(int(pid))) is not None and stat.state not in "ZX"]
    assert pty.controls[-1] == {"status": "exited", "exitCode": 137, "exitReason": "SIGKILL"}
    assert [each["status"] for each in other.controls] == ["connected"]
    await call(daemon, "GET", "/process/pty/p", 404)
    async with connect("p", offset=0) as pty:
        assert (await pty.end())[0] == 1008


async def test_an_id_is_free_again_at_once(daemon: Daemon, connect: Connect) -> None:
    for _ in range(20):
        async with connect(CREATE, id="again") as pty:
            await pty.connected()
            await call(daemon, "DELETE", "/process/pty/again")
    async with connect(CREATE, id="again") as pty:
        await pty.run("echo st''ill", "still")
    assert len((await call(daemon, "GET", "/process/pty"))["sessions"]) == 1
