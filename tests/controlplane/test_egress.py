"""Programs of sandboxes reach servers through the egress proxy: real programs, real servers, real TLS."""

import asyncio
import base64
import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from controlplane.egress.authority import Authority
from controlplane.egress.outbound import Outbound, Refusal, Target
from tests.controlplane.conftest import Plane, plane_on
from tests.controlplane.world import ALLOWED, OTHER, World, world

VALUE = 'hunter2 "&+'
NODE = Path(sys.executable).parent / "node"


@pytest.fixture
async def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Run servers whose certificates this machine trusts."""
    place = tmp_path / "world"
    place.mkdir()

    def certified() -> Any:
        authority = Authority.open(place / "authority.pem")
        authority.write_bundle(place / "trusted.pem")
        return authority.context(ALLOWED)

    monkeypatch.setenv("SSL_CERT_FILE", str(place / "trusted.pem"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    async with world(place / "git", await asyncio.to_thread(certified)) as found:
        yield found


Create = Callable[..., Awaitable[Any]]


@pytest.fixture
def sandbox_with(plane: Plane, outside: World) -> Create:
    """Return a function that makes a sandbox whose variable KEY stands for a value that may go to `ALLOWED`."""

    async def create(value: str = VALUE, hosts: list[str] | None = None, **wanted: Any) -> Any:
        hosts = [ALLOWED] if hosts is None else hosts
        await plane.call("POST", "/secret", 201, json={"name": "key", "value": value, "hosts": hosts})
        return await plane.create(secrets=[{"KEY": "key"}], **wanted)

    return create


async def test_curl(plane: Plane, outside: World, sandbox_with: Create) -> None:
    sandbox = await sandbox_with()
    placeholder = await plane.execute(sandbox, "echo $KEY")
    assert placeholder.startswith("dtn_secret_")
    ask = 'curl -sSf -H "X-Key: a${KEY}b" "%s/p?k=$KEY"'
    for url in (outside.http(ALLOWED), outside.https(ALLOWED)):
        answer = json.loads(await plane.execute(sandbox, ask % url))
        assert answer["headers"]["X-Key"] == f"a{VALUE}b"
        assert answer["path"] == "/p?k=hunter2%20%22%26%2B"
        assert answer["headers"]["Host"] == urlsplit(url).netloc
        assert not [name for name in answer["headers"] if name.lower().startswith("proxy")]
    outside.received.clear()
    answer = json.loads(await plane.execute(sandbox, ask % outside.http(OTHER)))
    assert answer["headers"]["X-Key"] == f"a{placeholder}b"
    assert answer["path"] == f"/p?k={placeholder}"


async def test_what_is_not_allowed_keeps_its_own_certificate(plane: Plane, sandbox_with: Create) -> None:
    sandbox = await sandbox_with()

    def certified() -> tuple[Path, Any]:
        path = plane.state_dir.parent / "stranger.pem"
        authority = Authority.open(path)
        authority.write_bundle(path.with_suffix(".bundle"))
        return path.with_suffix(".bundle"), authority.context(OTHER)

    # A server of an authority that only the client trusts: nobody can have stood in between.
    bundle, context = await asyncio.to_thread(certified)
    async with world(plane.state_dir.parent / "stranger", context) as stranger:
        answer = await plane.execute(sandbox, f'curl -sSf --cacert {bundle} -H "X-Key: $KEY" {stranger.https(OTHER)}/')
        assert json.loads(answer)["headers"]["X-Key"].startswith("dtn_secret_")
        # And one that the proxy does not trust gets nothing.
        refused = await plane.execute(sandbox, f'curl -sS -H "X-Key: $KEY" {stranger.https(ALLOWED)}/')
        assert refused.startswith("egress proxy: cannot connect to 127.0.0.2")
        assert "certificate" in refused
        assert len(stranger.received) == 1


PYTHON = """
import json, os, requests, sys, urllib.request
for base in sys.argv[1:]:
    headers = {"X-Key": os.environ["KEY"]}
    with urllib.request.urlopen(urllib.request.Request(base + "/u", headers=headers)) as answer:
        print(json.load(answer)["headers"]["X-Key"])
    with requests.Session() as session:
        session.auth = ("user", os.environ["KEY"])
        for n in range(3):
            print(json.dumps(session.post(base + "/r", json={"k": os.environ["KEY"]}).json()))
        print(json.dumps(session.post(base + "/r", data={"k": os.environ["KEY"]}).json()))
"""


async def test_python(plane: Plane, outside: World, sandbox_with: Create) -> None:
    sandbox = await sandbox_with()
    urls = f"{outside.http(ALLOWED)} {outside.https(ALLOWED)}"
    output = await plane.execute(sandbox, f"{sys.executable} -c {shlex.quote(PYTHON)} {urls}")
    lines = output.splitlines()
    assert len(lines) == 10
    for start in (0, 5):
        assert lines[start] == VALUE
        answers = [json.loads(line) for line in lines[start + 1 : start + 5]]
        basic = "Basic " + base64.b64encode(f"user:{VALUE}".encode()).decode()
        assert {answer["headers"]["Authorization"] for answer in answers} == {basic}
        assert [json.loads(answer["body"]) for answer in answers[:3]] == [{"k": VALUE}] * 3
        assert answers[3]["body"] == "k=hunter2+%22%26%2B"


NODE_PROGRAM = """
const ask = async (base) => (await (await fetch(base + '/n', {
  method: 'POST', headers: { 'X-Key': process.env.KEY, 'content-type': 'text/plain' }, body: process.env.KEY,
})).json())
Promise.all(process.argv.slice(1).map(ask)).then((found) => console.log(JSON.stringify(found)))
"""


async def test_node(plane: Plane, outside: World, sandbox_with: Create) -> None:
    sandbox = await sandbox_with()
    command = f"{NODE} -e {shlex.quote(NODE_PROGRAM)} {outside.http(ALLOWED)} {outside.https(ALLOWED)}"
    for answer in json.loads(await plane.execute(sandbox, command)):
        assert (answer["headers"]["X-Key"], answer["body"]) == (VALUE, VALUE)


async def test_git(plane: Plane, outside: World, sandbox_with: Create, tmp_path: Path) -> None:
    repository = tmp_path / "world/git/one.git"

    def make() -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        author: list[str | Path] = ["git", "-C", tmp_path / "source", "-c", "user.name=n", "-c", "user.email=e@x"]
        commands: list[list[str | Path]] = [
            ["git", "init", "-q", "-b", "main", tmp_path / "source"],
            [*author, "commit", "-q", "--allow-empty", "-m", "first"],
            ["git", "clone", "-q", "--bare", tmp_path / "source", repository],
            ["git", "-C", repository, "update-server-info"],
        ]
        for command in commands:
            subprocess.run(command, check=True, env=environment)

    await asyncio.to_thread(make)
    sandbox = await sandbox_with("hunter2")
    url = f"https://user:$KEY@{ALLOWED}:{outside.https_port}/git/one.git"
    assert await plane.execute(sandbox, f'git clone -q "{url}" cloned && git -C cloned log --format=%s') == "first"
    token = await plane.execute(sandbox, "echo $KEY")
    clone = {"url": f"{outside.https(ALLOWED)}/git/one.git", "path": "two", "username": "user", "password": token}
    async with plane.http.post(f"{plane.origin}/toolbox/{sandbox['id']}/git/clone", json=clone) as response:
        assert response.status == 200, await response.text()


WEBSOCKET = """
import aiohttp, asyncio, os, sys
async def main():
    proxies = [(sys.argv[1], os.environ["http_proxy"]), (sys.argv[2], os.environ["https_proxy"])]
    import ssl
    context = ssl.create_default_context()
    async with aiohttp.ClientSession() as http:
        for base, proxy in proxies:
            headers = {"X-Key": os.environ["KEY"]}
            async with http.ws_connect(base + "/ws", proxy=proxy, ssl=context, headers=headers) as ws:
                print(await ws.receive_str())
                for text in ("one", "x" * 300000):
                    await ws.send_str(text)
                    print(len(await ws.receive_str()))
            print(ws.close_code)
asyncio.run(main())
"""


async def test_websockets(plane: Plane, outside: World, sandbox_with: Create) -> None:
    sandbox = await sandbox_with()
    urls = f"{outside.http(ALLOWED)} {outside.https(ALLOWED)}"
    output = await plane.execute(sandbox, f"{sys.executable} -c {shlex.quote(WEBSOCKET)} {urls}")
    assert output.splitlines() == [VALUE, "3", "300000", "1000"] * 2


class Client:
    """A client of the proxy in this process, byte by byte."""

    def __init__(self, proxy: str) -> None:
        found = urlsplit(proxy)
        assert found.hostname
        assert found.port
        self.address = (found.hostname, found.port)
        pair = f"{found.username}:{found.password}"
        self.login = "Proxy-Authorization: Basic " + base64.b64encode(pair.encode()).decode() + "\r\n"

    async def ask(self, head: str, body: bytes = b"", *, login: bool = True) -> bytes:
        """Send a request that ends the connection, and return all that comes."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            line, _, rest = head.partition("\r\n")
            writer.write(f"{line}\r\n{self.login if login else ''}{rest}".encode("latin-1") + body)
            async with asyncio.timeout(30):
                return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


async def client_of(plane: Plane, sandbox: Any) -> Client:
    return Client(await plane.execute(sandbox, "echo $http_proxy"))


async def test_streams_both_ways_and_big_bodies(plane: Plane, outside: World, sandbox_with: Create) -> None:
    client = await client_of(plane, await sandbox_with())
    reader, writer = await asyncio.open_connection(*client.address)
    url = f"{outside.http(ALLOWED)}/stream"
    head = f"POST {url} HTTP/1.1\r\n{client.login}Host: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    head_seen = False
    async with asyncio.timeout(30):
        for word in (b"first", b"second"):
            writer.write(b"%x\r\n%s\r\n" % (len(word), word))
            if not head_seen:
                await reader.readuntil(b"\r\n\r\n")
                head_seen = True
            await reader.readuntil(word)  # before the next one is sent
        writer.write(b"0\r\n\r\n")
        assert (await reader.read()).endswith(b"0\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    answer = await client.ask(f"GET {outside.http(ALLOWED)}/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"0123456789abcdef" * 65536 * 4)


async def test_bodies_that_pass_as_they_are(plane: Plane, outside: World, sandbox_with: Create) -> None:
    sandbox = await sandbox_with()
    key = await plane.execute(sandbox, "echo $KEY")
    url = f"{outside.http(ALLOWED)}/b"
    for header in ("Content-Type: application/octet-stream", "Transfer-Encoding: chunked"):
        command = f'curl -sSf -H "{header}" --data-binary "$KEY" {url}'
        assert json.loads(await plane.execute(sandbox, command))["body"] == key
    large = "x" * 1024 * 1024
    await plane.execute(sandbox, "python3 -c \"print('x' * 1048576, end='')\" > large; printf %s $KEY >> large")
    answer = json.loads(
        await plane.execute(sandbox, f"curl -sSf -H 'Content-Type: text/plain' --data-binary @large {url}")
    )
    assert answer["body"] == large + key
    waiting = f"curl -sSf -H 'Expect: 100-continue' -H 'Content-Type: text/plain' -d $KEY {url}"
    assert json.loads(await plane.execute(sandbox, waiting))["body"] == VALUE


async def test_refusals(plane: Plane, outside: World, sandbox_with: Create) -> None:
    sandbox = await sandbox_with()
    client = await client_of(plane, sandbox)
    get = f"GET {outside.http(ALLOWED)}/ HTTP/1.1\r\nHost: x\r\n\r\n"
    missing = await client.ask(get, login=False)
    assert missing.startswith(b"HTTP/1.1 407 ")
    assert b"proxy-authenticate: basic" in missing.lower()
    for wrong in ("Proxy-Authorization: Basic !!!", "Proxy-Authorization: Bearer x", "Proxy-Authorization: Basic eDp5"):
        assert (await client.ask(get.replace("Host: x", f"{wrong}\r\nHost: x"), login=False)).startswith(
            b"HTTP/1.1 407 "
        )
    with socket.create_server((ALLOWED, 0)) as closed:
        unused = closed.getsockname()[1]
    for head, status in (
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET https://a/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET http://a:99999/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET http://a%2eb/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("CONNECT a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (f"CONNECT {OTHER}:{unused} HTTP/1.1\r\nHost: x\r\n\r\n", 502),
        (f"HEAD http://{ALLOWED}:{unused}/ HTTP/1.1\r\nHost: x\r\n\r\n", 502),
        ("GET http://no-such-host.invalid/ HTTP/1.1\r\nHost: x\r\n\r\n", 502),
    ):
        assert (await client.ask(head)).startswith(f"HTTP/1.1 {status} ".encode()), head
    assert (await client.ask("garbage\r\n\r\n", login=False)).startswith(b"HTTP/1.1 400 ")
    big = "GET http://a/ HTTP/1.1\r\nX: " + "x" * 200_000
    assert (await client.ask(big)).startswith(b"HTTP/1.1 400 ")
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    assert (await client.ask(get)).startswith(b"HTTP/1.1 403 ")


async def test_another_name_behind_the_same_address_gets_no_value(
    plane: Plane, outside: World, sandbox_with: Create
) -> None:
    sandbox = await sandbox_with()
    ask = f'curl -sSf -H "Host: evil.example" -H "X-Key: $KEY" {outside.https(ALLOWED)}/'
    answer = json.loads(await plane.execute(sandbox, ask))
    assert answer["headers"]["Host"] == "evil.example"
    assert answer["headers"]["X-Key"].startswith("dtn_secret_")
    # In plain HTTP the URL decides.
    answer = json.loads(
        await plane.execute(
            sandbox, ask.replace("https", "http").replace(str(outside.https_port), str(outside.http_port))
        )
    )
    assert answer["headers"]["Host"] == f"{ALLOWED}:{outside.http_port}"
    assert answer["headers"]["X-Key"] == VALUE


async def test_only_attached_secrets_are_put_in_and_changes_count_at_once(
    plane: Plane, outside: World, sandbox_with: Create
) -> None:
    sandbox = await sandbox_with()
    other = await plane.call("POST", "/secret", 201, json={"name": "other", "value": "unseen"})
    url = outside.http(ALLOWED)

    async def sent(text: str) -> str:
        return str(json.loads(await plane.execute(sandbox, f'curl -sSf -H "X-Key: {text}" {url}'))["headers"]["X-Key"])

    placeholder = await plane.execute(sandbox, "echo $KEY")
    assert await sent(other["placeholder"]) == other["placeholder"]
    await plane.call("PATCH", "/secret/key", json={"value": "rotated"})
    assert await sent("$KEY") == "rotated"
    path = f"/sandbox/{sandbox['id']}/secrets"
    await plane.call("PUT", path, json={"secrets": [{"OTHER": "other"}]})
    assert await plane.execute(sandbox, "echo $KEY$OTHER") == other["placeholder"]
    assert await sent("$OTHER") == "unseen"
    assert await sent(placeholder) == placeholder
    await plane.call("PUT", path, 400, json={"secrets": [{"OTHER": "unknown"}]})
    await plane.call("DELETE", f"/secret/{other['id']}", 204)
    assert await sent("$OTHER") == other["placeholder"]
    await plane.call("PUT", path, json={"secrets": []})
    assert await plane.execute(sandbox, "echo $OTHER") == ""
    # One that began without secrets learns of the proxy too, and a stopped one at its start.
    plain = await plane.create()
    await plane.call("PUT", f"/sandbox/{plain['id']}/secrets", json={"secrets": [{"KEY": "key"}]})
    sandbox = plain
    assert await sent("$KEY") == "rotated"
    await plane.call("POST", f"/sandbox/{plain['id']}/stop")
    await plane.call("PUT", f"/sandbox/{plain['id']}/secrets", json={"secrets": [{"NEW": "key"}]})
    await plane.call("POST", f"/sandbox/{plain['id']}/start")
    assert await sent("$NEW") == "rotated"
    assert await plane.execute(sandbox, "echo $KEY") == ""


async def test_unrestricted(plane: Plane, outside: World, sandbox_with: Create) -> None:
    sandbox = await sandbox_with(hosts=[])
    for host in (ALLOWED, OTHER):
        answer = await plane.execute(sandbox, f'curl -sSf -H "X-Key: $KEY" {outside.http(host)}/')
        assert json.loads(answer)["headers"]["X-Key"] == VALUE


async def test_the_same_port_and_authority_after_a_restart(tmp_path: Path, outside: World) -> None:
    seen: list[str] = []
    for _ in range(2):
        async with plane_on(tmp_path / "state") as plane:
            if not seen:
                await plane.call("POST", "/secret", 201, json={"name": "key", "value": VALUE, "hosts": [ALLOWED]})
                sandbox = await plane.create(secrets=[{"KEY": "key"}])
            else:
                await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
            answer = await plane.execute(sandbox, f'curl -sSf -H "X-Key: $KEY" {outside.https(ALLOWED)}/')
            assert json.loads(answer)["headers"]["X-Key"] == VALUE
            seen.append(await plane.execute(sandbox, "echo $HTTPS_PROXY; tail -5 $SSL_CERT_FILE"))
    assert seen[0] == seen[1]


async def test_the_value_is_nowhere(
    plane: Plane, outside: World, sandbox_with: Create, processes_of: Callable[[Path], list[int]], caplog: Any
) -> None:
    value = "correct-horse-battery-staple"
    sandbox = await sandbox_with(value)
    ask = 'curl -sS -o /dev/null -w "%{http_code}" -H "X-Key: $KEY" -d "$KEY"'
    assert await plane.execute(sandbox, f"{ask} '{outside.https(ALLOWED)}/x?'$KEY") == "200"
    assert await plane.execute(sandbox, f"{ask} '{outside.http(ALLOWED)}/x?'$KEY") == "200"
    assert value in str(outside.received)
    await plane.execute(sandbox, "(sleep 1000 >/dev/null 2>&1 &)")

    def told() -> list[str]:
        pids = processes_of(plane.home(sandbox))
        assert len(pids) >= 2
        files = [Path(f"/proc/{pid}/{name}") for pid in pids for name in ("environ", "cmdline")]
        files += [path for path in plane.state_dir.rglob("*") if path.is_file()]
        return [str(path) for path in files if value.encode() in path.read_bytes()]

    assert await asyncio.to_thread(told) == []
    for path in ("/secret", "/secret/paginated", "/secret/key", "/sandbox", f"/sandbox/{sandbox['id']}"):
        assert value not in json.dumps(await plane.call("GET", path))
    assert value not in caplog.text
    assert value not in await plane.execute(
        sandbox, "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep KEY="
    )


async def test_a_sandbox_without_secrets_has_no_proxy(plane: Plane) -> None:
    sandbox = await plane.create()
    assert "@127.0.0.1" not in await plane.execute(sandbox, "env")
    assert not (plane.state_dir / "controlplane/egress/authority.pem").exists()


@pytest.mark.parametrize("parent", [None, "http://127.0.0.1:9"])
async def test_a_driver_whose_sandboxes_are_elsewhere_does_not_lead_to_this_machine(
    outside: World, monkeypatch: pytest.MonkeyPatch, parent: str | None
) -> None:
    if parent is not None:
        monkeypatch.setenv("http_proxy", parent)
    outbound = Outbound(ssl.create_default_context(), this_machine=False)
    for host in (ALLOWED, "127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "127.1"):
        with pytest.raises(Refusal) as refused:
            await outbound.connect(Target(host, outside.http_port, secure=False))
        assert refused.value.status == 403


async def test_a_client_that_goes_away_ends_its_request(plane: Plane, outside: World, sandbox_with: Create) -> None:
    client = await client_of(plane, await sandbox_with())
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        while await reader.read(1000):
            pass
        writer.close()
        ended.set()

    begun = asyncio.Event()
    async with await asyncio.start_server(serve, ALLOWED, 0) as server:
        port = server.sockets[0].getsockname()[1]
        for head in (f"GET http://{ALLOWED}:{port}/ HTTP/1.1", f"POST http://{ALLOWED}:{port}/ HTTP/1.1"):
            _, writer = await asyncio.open_connection(*client.address)
            length = "Content-Length: 100\r\n" if head.startswith("POST") else ""
            writer.write(f"{head}\r\n{client.login}Host: x\r\n{length}\r\n".encode())
            async with asyncio.timeout(30):
                await begun.wait()
                writer.close()
                await ended.wait()
            begun.clear()
            ended.clear()


async def test_half_an_answer_never_looks_whole(plane: Plane, outside: World, sandbox_with: Create) -> None:
    client = await client_of(plane, await sandbox_with())
    answers = iter(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            b"HTTP/1.1 200 OK\r\nX: ",
            b"nonsense\r\n\r\n",
            b"",
            b"HTTP/1.0 200 OK\r\n\r\nwhole",
        ]
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(answers))
        writer.close()

    async with await asyncio.start_server(serve, ALLOWED, 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = [await client.ask(f"GET http://{ALLOWED}:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(5)]
        assert not any(each.endswith(b"0\r\n\r\n") for each in found)
        assert b"Content-Length: 10" in found[0]
        assert [each.split()[1] for each in found[2:]] == [b"502"] * 3
        close = f"GET http://{ALLOWED}:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await client.ask(close)).endswith(b"5\r\nwhole\r\n0\r\n\r\n")


async def test_a_tunnel_to_a_server_that_speaks_first(plane: Plane, outside: World, sandbox_with: Create) -> None:
    client = await client_of(plane, await sandbox_with())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\n")
        writer.write(b"you said " + await reader.readline())
        writer.close()

    for host in (ALLOWED, OTHER):
        async with await asyncio.start_server(serve, host, 0) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(*client.address)
            writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\n{client.login}Host: x\r\n\r\n".encode())
            async with asyncio.timeout(30):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                assert await reader.readline() == b"220 hello\n"
                writer.write(b"this\n")
                assert await reader.read() == b"you said this\n"
            writer.close()
            await writer.wait_closed()


async def test_through_the_proxy_of_this_machine(
    tmp_path: Path, outside: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control plane that must use a proxy itself: here the egress proxy of another."""
    async with plane_on(tmp_path / "above") as above:
        await above.call("POST", "/secret", 201, json={"name": "key", "value": "unused", "hosts": ["nowhere"]})
        upper = await above.create(secrets=[{"KEY": "key"}])
        proxy = await above.execute(upper, "echo $http_proxy")
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        async with plane_on(tmp_path / "state") as plane:
            await plane.call("POST", "/secret", 201, json={"name": "key", "value": VALUE, "hosts": [ALLOWED]})
            sandbox = await plane.create(secrets=[{"KEY": "key"}])
            ask = 'curl -sS -H "X-Key: $KEY" %s/'
            for url in (outside.http(ALLOWED), outside.https(ALLOWED)):
                answer = json.loads(await plane.execute(sandbox, ask % url))
                assert answer["headers"]["X-Key"] == VALUE
            for url in (outside.http(OTHER),):
                answer = json.loads(await plane.execute(sandbox, ask % url))
                assert answer["headers"]["X-Key"].startswith("dtn_secret_")
            insecure = (ask % outside.https(OTHER)).replace("-sS", "-sSk")
            assert "dtn_secret_" in await plane.execute(sandbox, insecure)
            await above.call("DELETE", f"/sandbox/{upper['id']}")
            assert "403" in await plane.execute(sandbox, ask % outside.https(ALLOWED))
