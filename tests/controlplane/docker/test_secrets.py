"""Secrets in containers: the value reaches the allowed hosts only, and is nowhere else."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from daytona import AsyncDaytona, CreateSandboxFromSnapshotParams, CreateSecretParams, DaytonaConfig, UpdateSecretParams

from controlplane.egress.authority import Authority
from tests.controlplane.conftest import Plane
from tests.controlplane.docker.conftest import DEBIAN, container_name
from tests.image.conftest import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

VALUES = ("swordfish-one", "swordfish-two")
HTTP, HTTPS = 8080, 8443
SERVER = """
import http.server, json, os, ssl, threading, time
class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"headers": dict(self.headers), "body": body}).encode())
plain = http.server.ThreadingHTTPServer(("", 8080), Echo)
threading.Thread(target=plain.serve_forever, daemon=True).start()
while not os.path.exists("/world/certificate.pem"):
    time.sleep(0.01)
secured = http.server.ThreadingHTTPServer(("", 8443), Echo)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/world/certificate.pem")
secured.socket = context.wrap_socket(secured.socket, server_side=True)
print("ready", flush=True)
secured.serve_forever()
"""
ASK = """
import os, urllib.request
key = os.environ["KEY"]
request = urllib.request.Request({url!r}, data=("k=" + key).encode(), headers={{"X-Key": key}})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


@dataclass(frozen=True)
class Hosts:
    """Addresses of two servers that tell what arrives, in containers of their own."""

    allowed: str
    other: str


@contextmanager
def _server(engine: Engine, authority: Authority, bundle: Path, place: Path) -> Iterator[str]:
    place.mkdir()
    (place / "server.py").write_text(SERVER)
    mounts = ["--volume", f"{bundle}:/opt/bundle:ro", "--volume", f"{place}:/world:ro"]
    command = ["run", "--detach", "--rm", *mounts, DEBIAN, "/opt/bundle/bin/python3", "/world/server.py"]
    container = engine.call(*command)
    try:
        address = json.loads(engine.call("inspect", container))[0]["NetworkSettings"]["IPAddress"]
        key = authority._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (place / "new").write_bytes(key + authority._leaf(address).public_bytes(serialization.Encoding.PEM))
        (place / "new").rename(place / "certificate.pem")
        while "ready" not in engine.call("logs", container):
            pass
        yield str(address)
    finally:
        engine.call("rm", "--force", "--time=0", container)


@pytest.fixture
def hosts(engine: Engine, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Run the servers, whose certificates this machine trusts."""
    authority = Authority.open(tmp_path / "authority.pem")
    authority.write_bundle(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with (
        _server(engine, authority, bundle, tmp_path / "allowed") as allowed,
        _server(engine, authority, bundle, tmp_path / "other") as other,
    ):
        yield Hosts(allowed, other)


@pytest.fixture
async def daytona(hosts: Hosts, plane: Plane) -> AsyncIterator[AsyncDaytona]:
    async with AsyncDaytona(DaytonaConfig(api_key=plane.api_key, api_url=plane.api_url)) as found:
        yield found


async def test_value_goes_to_the_allowed_host_and_is_nowhere_else(
    daytona: AsyncDaytona, plane: Plane, hosts: Hosts, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    params = CreateSecretParams(name="key", value=VALUES[0], hosts=[hosts.allowed])
    made = await daytona.secret.create(params)
    sandbox = await daytona.create(CreateSandboxFromSnapshotParams(secrets={"KEY": "key"}, os_user="nobody"))

    async def sent(host: str, *, secure: bool) -> str:
        url = f"https://{host}:{HTTPS}/" if secure else f"http://{host}:{HTTP}/"
        answer = await sandbox.process.code_run(ASK.format(url=url))
        assert answer.exit_code == 0, answer.result
        arrived = json.loads(answer.result)
        assert arrived["body"] == f"k={arrived['headers']['X-Key']}"
        return str(arrived["headers"]["X-Key"])

    for secure in (True, False):
        assert await sent(hosts.allowed, secure=secure) == VALUES[0]
        assert await sent(hosts.other, secure=secure) == made.placeholder
    await daytona.secret.update(made.id, UpdateSecretParams(value=VALUES[1]))
    assert await sent(hosts.allowed, secure=True) == VALUES[1]
    await sandbox.stop()
    await sandbox.start()
    assert await sent(hosts.allowed, secure=True) == VALUES[1]

    inside = "env; tr '\\0' '\\n' < /proc/1/environ; cat /run/sandbox-toolbox/* /run/sandbox-toolbox-certificates/*"
    seen = (await sandbox.process.exec(f"{inside} 2> /dev/null; true")).result
    name = container_name(plane.state_dir / "controlplane", sandbox.id)
    outside = engine.call("inspect", name) + engine.call("logs", name) + caplog.text
    kept = await asyncio.to_thread(_everything, plane.state_dir)
    assert made.placeholder in seen
    assert made.placeholder not in engine.call("inspect", name)
    assert not [value for value in VALUES if value in seen + outside or value.encode() in kept]
    changed = await sandbox.process.exec("touch /run/sandbox-toolbox-certificates/mine")
    assert changed.exit_code != 0

    await sandbox.update_secrets({})
    assert (await sandbox.process.exec("echo ${KEY-none}")).result == "none\n"
    await sandbox.delete()


async def test_removed_secret_is_sent_nowhere(daytona: AsyncDaytona, hosts: Hosts) -> None:
    made = await daytona.secret.create(CreateSecretParams(name="key", value=VALUES[0], hosts=[hosts.allowed]))
    sandbox = await daytona.create(CreateSandboxFromSnapshotParams())
    await sandbox.update_secrets({"KEY": "key"})
    ask = ASK.format(url=f"http://{hosts.allowed}:{HTTP}/")
    assert VALUES[0] in (await sandbox.process.code_run(ask)).result
    await daytona.secret.delete(made.id)
    after = (await sandbox.process.code_run(ask)).result
    assert (made.placeholder in after, VALUES[0] in after) == (True, False)
    await sandbox.delete()


def _everything(directory: Path) -> bytes:
    """Return what all files below a directory hold."""
    found = [Path(top, name) for top, _, names in os.walk(directory) for name in names]
    return b"\n".join(each.read_bytes() for each in found if each.is_file())
