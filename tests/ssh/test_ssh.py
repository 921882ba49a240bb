"""The SSH server with the real OpenSSH clients."""

import asyncio
import hashlib
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.ssh.conftest import Client, make_key
from toolbox.children import tree
from toolbox.config import ConfigError, ServeConfig

MIB = 1024 * 1024


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def marked(text: str) -> list[int]:
    """Return the processes whose command line contains `text`."""
    found = []
    for stat in tree.all_processes():
        with suppress(OSError):
            command = Path(f"/proc/{stat.pid}/cmdline").read_bytes()
            if text.encode() in command and not command.startswith(b"ssh\0") and stat.state not in "ZX":
                found.append(stat.pid)
    return found


async def test_commands(ssh: Client, tmp_path: Path) -> None:
    assert await ssh.run("echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    assert await ssh.run("pwd") == (0, f"{tmp_path}/work\n".encode(), b"")
    assert await ssh.run("cat; printf end", data=b"\0\xff no newline") == (0, b"\0\xff no newlineend", b"")
    assert await ssh.run("echo $LC_TEST", before=("-o", "SetEnv=LC_TEST=given")) == (0, b"given\n", b"")
    assert (await ssh.run("no-such-command"))[0] == 127
    assert await ssh.run("[ -t 0 ] || echo no") == (0, b"no\n", b"")
    # OpenSSH says 255 for a signal; that it was one is in the protocol (see the test of the library's client).
    assert (await ssh.run("kill -9 $$"))[0] == 255
    assert await ssh.run(data=b"echo from a shell\nexit 3\n") == (3, b"from a shell\n", b"")
    assert len(ssh.known_hosts.read_text().splitlines()) == 1


async def test_much_goes_both_ways(ssh: Client) -> None:
    data = os.urandom(MIB) * 20
    code, output, _ = await ssh.run("tee /dev/stderr 2>&1 >/dev/null", data=data)
    assert (code, hashlib.sha256(output).digest()) == (0, hashlib.sha256(data).digest())
    # Who does not read its input does not hold up the end.
    assert (await ssh.run("echo done", data=data))[:2] == (0, b"done\n")


async def test_what_is_left_behind_runs_on(ssh: Client) -> None:
    code, output, _ = await ssh.run("sleep 1001 & echo $!")
    assert code == 0
    assert Path(f"/proc/{int(output)}").exists()


async def test_terminal(ssh: Client) -> None:
    code, output, _ = await ssh.run("tty; echo $TERM; exit 5", before=("-tt",), env={"TERM": "vt100"})
    assert (code, re.sub(rb"/\d+", b"/N", output)) == (5, b"/dev/pts/N\r\nvt100\r\n")
    code, output, _ = await ssh.run(before=("-tt",), data=b"echo $((40+2)); exit 4\n")
    assert code == 4
    assert b"42" in output
    code, output, _ = await ssh.run("seq 100000", before=("-tt",))
    assert output == b"".join(b"%d\r\n" % number for number in range(1, 100001))


async def test_who_leaves_takes_it_along(ssh: Client, tmp_path: Path) -> None:
    for before in ((), ("-tt",)):
        mark = f"1{os.getpid()}{len(before)}.125"
        argv = ssh.argv(f"echo go; sleep {mark}; true")
        argv[1:1] = before
        process = await ssh.start(*argv)
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"go"
        await until(lambda: bool(marked(f"sleep\0{mark}")))  # noqa: B023
        process.kill()
        await process.communicate()
        await until(lambda: not marked(mark))  # noqa: B023


async def test_files(ssh: Client, tmp_path: Path) -> None:
    data = os.urandom(5 * MIB)
    (ssh.directory / "up").write_bytes(data)
    for legacy in ((), ("-O",)):
        assert await ssh.copy(*legacy, "up", "HOST:down") == (0, b"", b"")
        assert (tmp_path / "work/down").read_bytes() == data
        assert await ssh.copy(*legacy, "HOST:down", "back") == (0, b"", b"")
        assert (ssh.directory / "back").read_bytes() == data
        (ssh.directory / "back").unlink()
    folder = ssh.directory / "folder/deep"
    folder.mkdir(parents=True)
    (folder / "file").write_text("text")
    (folder / "tool").write_text("x")
    (folder / "tool").chmod(0o755)
    assert (await ssh.copy("-rp", "folder", "HOST:"))[0] == 0
    assert (tmp_path / "work/folder/deep/file").read_text() == "text"
    assert (tmp_path / "work/folder/deep/tool").stat().st_mode & 0o777 == 0o755
    assert (await ssh.copy("HOST:missing", "x"))[0] == 1


async def test_sftp(ssh: Client, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (ssh.directory / "one").write_text("one")
    script = (
        "pwd\nmkdir dir\nput one dir/one\nrename dir/one dir/two\nsymlink dir/two link\nls -l dir\nchmod 600 dir/two\n"
    )
    code, output, errors = await ssh.copy("-b", "-", "HOST", program="sftp", data=script.encode())
    assert code == 0, errors
    assert f"Remote working directory: {work}" in output.decode()
    assert (work / "link").read_text() == "one"
    assert (work / "dir/two").stat().st_mode & 0o777 == 0o600
    await asyncio.to_thread(os.mkfifo, work / "pipe")
    for refused in ("get pipe", "get nowhere", "rmdir dir", "mkdir dir", "get /proc/self/mem x"):
        assert (await ssh.copy("-b", "-", "HOST", program="sftp", data=refused.encode()))[0] == 1, refused
    script = "get /etc/hostname name\nrm dir/two\nrmdir dir\nrm link\nrm pipe\n"
    assert (await ssh.copy("-b", "-", "HOST", program="sftp", data=script.encode()))[0] == 0
    assert list(work.iterdir()) == []


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()


async def ask(*, port: int | None = None, path: str | None = None) -> bytes:
    """Connect, once something listens, and return the answer to a line."""
    async with asyncio.timeout(30):
        while True:
            try:
                if path is not None:
                    reader, writer = await asyncio.open_unix_connection(path)
                else:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.02)
    writer.write(b"hello\n")
    answer = await reader.read()
    writer.close()
    return answer


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
        assert await ask(port=ports[0]) == b"HELLO\n"
        assert await ask(port=ports[1]) == b"HELLO\n"
        assert await ask(path=near) == b"HELLO\n"
        assert await ask(path=far) == b"HELLO\n"
        process.terminate()
        await process.communicate()
        await until(lambda: not Path(far).exists())
        # A forwarded socket never takes the place of something.
        Path(far).write_text("kept")
        argv = ssh.argv("-N", "-o", "ExitOnForwardFailure=yes")
        argv[1:1] = ["-R", f"{far}:{tmp_path}/echo"]
        assert (await ssh.finish(await ssh.start(*argv)))[0] == 255
        assert Path(far).read_text() == "kept"


async def test_strangers_stay_outside(ssh: Client, tmp_path: Path) -> None:
    other = tmp_path / "other"
    await make_key(other)
    code, output, errors = await Client(ssh.directory, ssh.port, other).run("echo in")
    assert (code, output) == (255, b"")
    assert b"Permission denied" in errors
    assert (await Client(ssh.directory, ssh.port, None).run("echo in"))[0] == 255


async def test_never_open(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> None:
    from toolbox.app import running

    for options, reason in (
        ({}, "never open"),
        ({"auth": "none"}, "never open"),
        ({"ssh_authorized_keys": str(tmp_path / "missing")}, "authorized keys"),
    ):
        with pytest.raises(ConfigError, match=reason):
            async with running(serve_config(ssh_port="0", **options)):
                pass


async def test_the_token_is_a_password(serve_config: Callable[..., ServeConfig]) -> None:
    import asyncssh

    from toolbox.app import running

    async with running(serve_config(ssh_port="0", token="the-token")) as daemon:

        async def enter(**options: Any) -> Any:
            return await asyncssh.connect(
                "127.0.0.1", daemon.ssh_port, known_hosts=None, config=None, client_keys=None, **options
            )

        async with await enter(username="any", password="the-token") as connection:
            done = await connection.run("kill -TERM $$")
            assert done.exit_signal is not None
            assert (done.exit_signal[0], done.exit_status) == ("TERM", -1)
            process = await connection.create_process(
                "trap 'echo got; exit 9' INT; /bin/echo go; while :; do sleep 0.1; done"
            )
            assert await process.stdout.readline() == "go\n"
            process.send_signal("NONSENSE")
            process.send_signal("INT")
            assert ((await process.wait()).exit_status, await process.stdout.read()) == (9, "")
            process = await connection.create_process(
                "stty size; read x; stty size", term_type="xterm", term_size=(91, 31)
            )
            assert await process.stdout.readline() == "31 91\r\n"
            process.change_terminal_size(92, 32)
            process.stdin.write("\n")
            assert (await process.stdout.read()).strip() == "32 92"
        for wrong in ("", "wrong"):
            with pytest.raises(asyncssh.PermissionDenied):
                await enter(username="any", password=wrong)


async def test_everything_ends_with_the_daemon(serving: Any) -> None:
    async with serving() as client:
        processes = []
        for before in ((), ("-tt",)):
            argv = client.argv("trap '' TERM HUP; echo go; sleep 1002")
            argv[1:1] = before
            process = await client.start(*argv)
            assert process.stdout is not None
            await process.stdout.readline()
            processes.append(process)
    for process in processes:
        await process.communicate()
        assert process.returncode == 255


async def test_the_host_key_stays(serving: Any) -> None:
    for _ in range(2):
        async with serving() as client:
            assert (await client.run("true"))[0] == 0
    keys = {line.split(" ", 1)[1] for line in client.known_hosts.read_text().splitlines()}
    assert len(keys) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="not possible here: needs root")
async def test_clients_are_the_workload_user(serving: Any, tmp_path: Path) -> None:
    with TemporaryDirectory() as work:  # where another user may look
        Path(work).chmod(0o755)
        await asyncio.to_thread(Path(work, "secret").write_text, "root's")
        Path(work, "secret").chmod(0o600)
        async with serving(user="nobody", work_dir=work) as client:
            await _is_nobody(client, tmp_path)


async def _is_nobody(client: Client, tmp_path: Path) -> None:
    (client.directory / "up").write_text("text")
    assert (await client.run("id -un"))[:2] == (0, b"nobody\n")
    assert (await client.run("tty >/dev/null && id -un", before=("-tt",)))[:2] == (0, b"nobody\r\n")
    for refused in ("get secret", "put up new", "chmod 777 secret", "rm secret"):
        code, _, errors = await client.copy("-b", "-", "HOST", program="sftp", data=refused.encode())
        assert code == 1, errors
    for forward in (f"{tmp_path}/far:{tmp_path}/near", "80:127.0.0.1:1"):
        argv = client.argv("-N", "-o", "ExitOnForwardFailure=yes")
        argv[1:1] = ["-R", forward]
        assert (await client.finish(await client.start(*argv)))[0] == 255
