"""SSH to sandboxes through the control plane, with the real OpenSSH clients and the SDK."""

import asyncio
import os
import shlex
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daytona import AsyncDaytona, DaytonaConfig

from tests.controlplane.conftest import Plane, plane_on
from tests.ssh.conftest import Client
from tests.ssh.test_ssh import ask, echo, until


@pytest.fixture(autouse=True)
def openssh() -> None:
    if shutil.which("ssh") is None:
        pytest.skip("not possible here: no ssh")


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    (tmp_path / "client").mkdir()
    async with plane_on(tmp_path / "state", ssh_port="0") as found:
        yield found


async def grant(plane: Plane, sandbox: Any, **query: Any) -> Any:
    return await plane.call("POST", f"/sandbox/{sandbox['id']}/ssh-access", params=query)


def client(plane: Plane, tmp_path: Path, token: str) -> Client:
    return Client(tmp_path / "client", plane.ssh_port, None, token)


@pytest.fixture
async def sandbox(plane: Plane) -> Any:
    return await plane.create(env_vars={}, env={"OWN": "here"})


@pytest.fixture
async def ssh(plane: Plane, sandbox: Any, tmp_path: Path) -> Client:
    return client(plane, tmp_path, (await grant(plane, sandbox))["token"])


async def test_the_command_works_as_it_stands(plane: Plane, sandbox: Any, ssh: Client) -> None:
    access = await grant(plane, sandbox, expiresInMinutes=5)
    assert access["sandboxId"] == sandbox["id"]
    assert access["createdAt"] == access["updatedAt"] < access["expiresAt"]
    program, *words = shlex.split(access["sshCommand"])
    assert (program, words) == ("ssh", ["-p", str(plane.ssh_port), f"{access['token']}@127.0.0.1"])
    options = ["-o", f"UserKnownHostsFile={ssh.known_hosts}", "-o", "StrictHostKeyChecking=accept-new", "-F", "none"]
    done = await ssh.finish(await ssh.start(program, *options, *words, "echo $OWN; exit 3"))
    assert done[:2] == (3, b"here\n")


async def test_commands_and_terminals(plane: Plane, sandbox: Any, ssh: Client) -> None:
    assert await ssh.run("echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    assert await ssh.run("pwd") == (0, f"{plane.home(sandbox)}\n".encode(), b"")
    data = os.urandom(3 * 1024 * 1024)
    assert await ssh.run("cat", data=data) == (0, data, b"")
    assert (await ssh.run("kill -9 $$"))[0] == 255
    code, output, _ = await ssh.run("echo $TERM; exit 5", before=("-tt",), env={"TERM": "vt100"})
    assert (code, output) == (5, b"vt100\r\n")


async def test_signals_and_sizes(plane: Plane, ssh: Client) -> None:
    import asyncssh

    async with asyncssh.connect(
        "127.0.0.1", plane.ssh_port, username=ssh.user, known_hosts=None, config=None, client_keys=None
    ) as connection:
        done = await connection.run("kill -TERM $$")
        assert done.exit_signal is not None
        assert done.exit_signal[0] == "TERM"
        process = await connection.create_process(
            "trap 'echo got; exit 9' INT; /bin/echo go; while :; do sleep 0.1; done"
        )
        assert await process.stdout.readline() == "go\n"
        process.send_signal("INT")
        assert await process.stdout.read() == "got\n"
        await process.wait_closed()
        assert process.exit_status == 9
        process = await connection.create_process("stty size; read x; stty size", term_type="xterm", term_size=(91, 31))
        assert await process.stdout.readline() == "31 91\r\n"
        process.change_terminal_size(92, 32)
        process.stdin.write("\n")
        assert (await process.stdout.read()).strip() == "32 92"


async def test_files(plane: Plane, sandbox: Any, ssh: Client) -> None:
    data = os.urandom(3 * 1024 * 1024)
    (ssh.directory / "up").write_bytes(data)
    for legacy in ((), ("-O",)):
        assert await ssh.copy(*legacy, "up", "HOST:down") == (0, b"", b"")
        assert (plane.home(sandbox) / "down").read_bytes() == data
        assert await ssh.copy(*legacy, "HOST:down", "back") == (0, b"", b"")
        assert (ssh.directory / "back").read_bytes() == data
    code, output, _ = await ssh.copy("-b", "-", "HOST", program="sftp", data=b"pwd\n")
    assert (code, str(plane.home(sandbox)) in output.decode()) == (0, True)


async def test_forwarding(ssh: Client, tmp_path: Path) -> None:
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    near, far = str(tmp_path / "near"), str(tmp_path / "far")
    on_tcp = await asyncio.start_server(echo, "127.0.0.1", 0)
    on_unix = await asyncio.start_unix_server(echo, str(tmp_path / "echo"))
    target = on_tcp.sockets[0].getsockname()[1]
    argv = ssh.argv("-N", "-o", "ExitOnForwardFailure=yes")
    argv[1:1] = ["-L", f"{ports[0]}:127.0.0.1:{target}", "-R", f"{ports[1]}:127.0.0.1:{target}"]
    argv[1:1] = ["-L", f"{near}:{tmp_path}/echo", "-R", f"{far}:{tmp_path}/echo"]
    process = await ssh.start(*argv)
    async with on_tcp, on_unix:
        for place in ({"port": ports[0]}, {"port": ports[1]}, {"path": near}, {"path": far}):
            assert await ask(**place) == b"HELLO\n"
        process.terminate()
        await process.communicate()
        await until(lambda: not Path(far).exists())


async def test_strangers_stay_outside(plane: Plane, sandbox: Any, tmp_path: Path) -> None:
    from controlplane.grants import Grant

    for wrong in ("root", sandbox["id"], plane.api_key, "a" * 32):
        code, output, errors = await client(plane, tmp_path, wrong).run("echo in")
        assert (code, output) == (255, b"")
        assert b"Permission denied" in errors
    preview = await plane.call("GET", f"/sandbox/{sandbox['id']}/ports/22/signed-preview-url")
    assert (await client(plane, tmp_path, preview["token"]).run("echo in"))[0] == 255
    token = (await grant(plane, sandbox, expiresInMinutes=1))["token"]
    before = Grant.seconds_left
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Grant, "seconds_left", property(lambda each: before.fget(each) - 61))  # type: ignore[attr-defined]
        assert (await client(plane, tmp_path, token).run("echo in"))[0] == 255
        answer = await plane.call("GET", "/sandbox/ssh-access/validate", params={"token": token})
        assert answer == {"valid": False, "sandboxId": ""}
    assert (await client(plane, tmp_path, token).run("echo in"))[:2] == (0, b"in\n")


async def connected(ssh: Client) -> Any:
    process = await ssh.start(*ssh.argv("echo go; sleep 1000"))
    assert process.stdout is not None
    assert await process.stdout.readline() == b"go\n"
    return process


async def test_revoking_cuts(plane: Plane, sandbox: Any, ssh: Client, tmp_path: Path) -> None:
    others = [client(plane, tmp_path, (await grant(plane, sandbox))["token"]) for _ in range(2)]
    cut, kept, last = [await connected(each) for each in (ssh, *others)]
    path = f"/sandbox/{sandbox['id']}/ssh-access"
    answer = await plane.call("DELETE", path, params={"token": ssh.user})
    assert answer["id"] == sandbox["id"]
    await cut.communicate()
    assert cut.returncode == 255
    assert kept.returncode is None
    assert (await ssh.run("true"))[0] == 255
    assert (await others[0].run("true"))[0] == 0
    valid = await plane.call("GET", "/sandbox/ssh-access/validate", params={"token": others[0].user})
    assert valid == {"valid": True, "sandboxId": sandbox["id"]}
    other = await plane.create()
    await plane.call("DELETE", f"/sandbox/{other['id']}/ssh-access")
    await plane.call("DELETE", f"/sandbox/{other['id']}/ssh-access", params={"token": others[0].user})
    assert (await others[0].run("true"))[0] == 0
    await plane.call("DELETE", path)
    for process in (kept, last):
        await process.communicate()
        assert process.returncode == 255


async def test_expiry_cuts(plane: Plane, sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from controlplane.grants import Grant

    token = (await grant(plane, sandbox, expiresInMinutes=1))["token"]
    before = Grant.seconds_left
    # Two seconds are left of the minute.
    monkeypatch.setattr(Grant, "seconds_left", property(lambda each: before.fget(each) - 58))  # type: ignore[attr-defined]
    process = await client(plane, tmp_path, token).start(*client(plane, tmp_path, token).argv("sleep 1000"))
    await process.communicate()
    assert process.returncode == 255


async def test_stopping_the_sandbox_cuts(plane: Plane, sandbox: Any, ssh: Client) -> None:
    process = await connected(ssh)
    await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
    await process.communicate()
    assert process.returncode == 255
    assert (await ssh.run("true"))[0] == 255
    await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
    assert (await ssh.run("true"))[0] == 0
    await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
    assert (await ssh.run("true"))[0] == 255
    answer = await plane.call("GET", "/sandbox/ssh-access/validate", params={"token": ssh.user})
    assert not answer["valid"]


async def test_bad_requests(plane: Plane, sandbox: Any, tmp_path: Path) -> None:
    path = f"/sandbox/{sandbox['id']}/ssh-access"
    for minutes in ("0", "-1", "x", "99999999"):
        await plane.call("POST", path, expect=400, params={"expiresInMinutes": minutes})
    await plane.call("POST", "/sandbox/nobody/ssh-access", expect=404)
    assert await plane.call("GET", "/sandbox/ssh-access/validate") == {"valid": False, "sandboxId": ""}
    async with aiohttp.ClientSession() as stranger:
        async with stranger.get(f"{plane.api_url}/sandbox/ssh-access/validate?token=x") as response:
            assert response.status == 401


async def test_off_unless_asked_for(tmp_path: Path) -> None:
    async with plane_on(tmp_path / "state") as plane:
        sandbox = await plane.create()
        answer = await plane.call("POST", f"/sandbox/{sandbox['id']}/ssh-access", expect=503)
        assert "--ssh-port" in answer["message"]


async def test_sdk(plane: Plane, tmp_path: Path) -> None:
    async with AsyncDaytona(DaytonaConfig(api_key=plane.api_key, api_url=plane.api_url)) as daytona:
        sandbox = await daytona.create()
        access = await sandbox.create_ssh_access(expires_in_minutes=10)
        assert access.ssh_command.endswith(f"{access.token}@127.0.0.1")
        assert (await sandbox.validate_ssh_access(access.token)).valid
        assert (await client(plane, tmp_path, access.token).run("echo hello"))[:2] == (0, b"hello\n")
        await sandbox.revoke_ssh_access(access.token)
        assert not (await sandbox.validate_ssh_access(access.token)).valid
        await sandbox.delete()


async def test_leaving_is_noticed(plane: Plane, sandbox: Any, ssh: Client, processes_of: Callable[..., Any]) -> None:
    await plane.execute(sandbox, "true")  # with the first child comes the daemon's guard, which stays
    before = len(await asyncio.to_thread(processes_of, plane.state_dir))
    process = await connected(ssh)
    process.kill()
    await process.communicate()
    await until(lambda: len(processes_of(plane.state_dir)) == before)
