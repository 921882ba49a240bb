"""Secrets stay with who was given them: in no log, no argument, no variable of a child, no error text."""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Toolboxd
from tests.security import audit
from toolbox.children import tree
from toolbox.config import ServeConfig, secret_variables

TOKEN = "token-that-nobody-may-see"
KEY = "signing-key-that-nobody-may-see"
LOGIN = "password-that-nobody-may-see"
OURS = (TOKEN, KEY, LOGIN)


def of_tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents = {stat.pid: stat.parent for stat in tree.all_processes()}
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def shown(pid: int, name: str) -> str:
    """Return a file of a process in /proc."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def told_by_processes(server: int) -> list[str]:
    """Return the arguments of a server and of all its descendants, and the variables of these."""
    processes = of_tree(server)
    assert len(processes) >= 2
    told = [shown(pid, "cmdline") for pid in processes]
    return [*told, *(shown(pid, "environ") for pid in processes if pid != server)]


async def everything_wrong(http: aiohttp.ClientSession) -> str:
    """Make requests that fail, with secrets in every place a client may put them; return all that is answered."""
    answers = []
    query = {"DAYTONA_SANDBOX_AUTH_KEY": TOKEN}
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/version", {"params": query}),
        ("GET", "/nope", {"params": query}),
        ("GET", "/files/download", {"params": {**query, "path": "nope"}}),
        ("GET", "/files/download", {"params": {"path": "x", "expires": "0", "signature": KEY}}),
        ("GET", "/proxy/1/x", {"params": query}),
        ("GET", "/proxy/99999/x", {"params": query}),
        ("GET", "/process/pty/nope/connect", {"params": query}),
        ("POST", "/process/execute", {"data": b"{"}),
        ("POST", "/init", {"json": {"token": KEY}}),
        (
            "POST",
            "/git/clone",
            {"json": {"url": "http://127.0.0.1:1/x", "path": "x", "username": "u", "password": LOGIN}},
        ),
        ("POST", "/git/clone", {"json": {"url": f"http://u:{LOGIN}@127.0.0.1:1/x", "path": "y"}}),
        ("POST", "/git/clone", {"json": {"url": f"nonsense://u:{LOGIN}@host/x", "path": "z"}}),
    ]
    for method, path, options in requests:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}):
            async with http.request(method, path, headers=headers, **options) as response:
                answers.append(await response.text())
    return "\n".join(answers)


async def test_a_daemon_tells_none(start_toolboxd: Callable[..., Awaitable[Toolboxd]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = ("serve", "--port", "0", "--log-level", "debug", "--log-file", str(log), "--auth", "token")
    toolboxd = await start_toolboxd(*argv, env={"TOOLBOX_TOKEN": TOKEN, "TOOLBOX_SIGNING_KEY": KEY})
    url = f"http://127.0.0.1:{await toolboxd.port()}"
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(url) as http:
        answers = await everything_wrong(http)
        async with http.post("/process/session", json={"sessionId": "s"}, headers=bearer) as response:
            assert response.ok
        async with http.post("/process/pty", json={"id": "p"}, headers=bearer) as response:
            assert response.ok
        async with http.post("/process/execute", json={"command": "env; set"}, headers=bearer) as response:
            answers += (await response.json())["result"]
        said = await asyncio.to_thread(told_by_processes, toolboxd.process.pid)
        async with http.get("/metrics", headers=bearer) as response:
            answers += await response.text()
        async with http.get("/openapi.json", headers=bearer) as response:
            answers += await response.text()
    code, errors = await toolboxd.end()
    assert code == 0
    for text in (answers, *said, errors, log.read_text()):
        audit.check(text, OURS)
    assert '"path": "/files/download"' in errors  # the requests were logged indeed


async def test_a_control_plane_tells_none(start_toolboxd: Callable[..., Awaitable[Toolboxd]]) -> None:
    toolboxd = await start_toolboxd("up", "--port", "0", "--log-level", "debug", env={"TOOLBOX_TOKEN": TOKEN})
    api = await toolboxd.line("export DAYTONA_API_URL=")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    secrets = [TOKEN]
    async with aiohttp.ClientSession(headers=bearer) as http:

        async def call(method: str, path: str, **options: Any) -> Any:
            async with http.request(method, api + path, **options) as response:
                assert response.ok, await response.text()
                return json.loads(await response.read() or b"null")

        box = await call("POST", "/sandbox", json={"name": "box", "env": {"APPLICATION": "x"}})
        links = ("ports/80/preview-url", "ports/1/preview-url", "ports/80/signed-preview-url")
        secrets += [(await call("GET", f"/sandbox/{box['id']}/{path}"))["token"] for path in links]
        async with http.get(f"{api}/sandbox/{box['id']}/signing-key") as response:
            secrets.append(await response.text())
        secrets.append((await call("POST", "/api-keys", json={"name": "k", "permissions": []}))["value"])
        await call("POST", "/secret", json={"name": "s", "value": LOGIN})
        state = Path(toolboxd.state_dir) / "controlplane"
        secrets += [each.read_text().strip() for each in state.rglob("*") if each.is_file() and "token" in each.name]
        secrets += [(state / name).read_text().strip() for name in ("sandbox-secret", "vault-key")]
        origin = api.removesuffix("/api")
        for secret in secrets[1:]:
            for path in (f"/preview/80/{secret}/", f"/toolbox/{box['id']}/version?DAYTONA_SANDBOX_AUTH_KEY={secret}"):
                async with http.get(origin + path, headers={"Authorization": "Bearer wrong"}) as response:
                    audit.check(await response.text(), [*secrets, LOGIN])
        said = await asyncio.to_thread(told_by_processes, toolboxd.process.pid)
        for path in (f"/sandbox/{box['id']}/daemon-logs", "/audit"):
            async with http.get(api + path) as response:
                assert response.ok
                said.append(await response.text())
        for text in said:
            audit.check(text, [*secrets, LOGIN])
    _, errors = await toolboxd.end()
    audit.check(errors, [*secrets, LOGIN])
    assert len(set(secrets)) >= 8
    for name in ("api-key", "sandbox-secret", "vault-key", "sandboxes.sqlite"):
        if (state / name).exists():
            assert (state / name).stat().st_mode & 0o077 == 0 or state.stat().st_mode & 0o077 == 0, name


def test_children_get_no_variable_that_is_secret() -> None:
    assert secret_variables() >= {"TOOLBOX_TOKEN", "TOOLBOX_TOKEN_FILE", "TOOLBOX_SIGNING_KEY"}


def test_the_audit_of_the_suite_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fail a test in which a secret is logged, in a message, a field or a traceback."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, audit.Listener)]:
        root.removeHandler(handler)  # that of this test: what is leaked here is meant to be

    def leak(*, field: bool) -> None:
        with audit.listening(monkeypatch):
            ServeConfig.load({"token": TOKEN, "port": "0"}, {"HOME": "/nowhere"})
            fields = {"fields": {"query": f"?key={TOKEN}"}} if field else {}
            error = None if field else ValueError(f"bad token {TOKEN}")
            logging.getLogger("toolbox.access").warning("request", extra=fields, exc_info=error)

    for field in (True, False):
        with pytest.raises(AssertionError, match="a secret is said"):
            leak(field=field)
    assert audit.given(("serve", "--token", TOKEN), {"TOOLBOX_SIGNING_KEY": KEY}) == {TOKEN, KEY}


def test_nobody_but_the_owner_reads_the_state(tmp_path: Path) -> None:
    from toolbox.state import StateDir

    before = os.umask(0)
    try:
        StateDir.open(tmp_path / "state").directory("a", "b")
    finally:
        os.umask(before)
    for place in (tmp_path / "state", tmp_path / "state/a/b"):
        assert place.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="not possible here: giving a directory away needs root")
def test_a_state_directory_that_anybody_could_have_made_must_be_ours(tmp_path: Path) -> None:
    from toolbox.config import ConfigError
    from toolbox.state import StateDir

    tmp_path.chmod(0o1777)
    (tmp_path / "ours").mkdir()
    StateDir.open(tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    for name in ("theirs", "link"):
        with pytest.raises(ConfigError, match="somebody else"):
            StateDir.open(tmp_path / name)
