"""The default image as a pod runs it: any user id, a root file system that is read-only, no privileges, `/init`."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Daemon
from tests.image.conftest import STOP_SECONDS, Container, Engine, StartContainer
from tests.interpreter.client import run

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]

UID = "12345"
HOME = "/home/sandbox"
TOKEN = "a-token-of-this-test"
READY = "Starting toolbox server on port "
WITH_TMP = ("--tmpfs=/tmp",)
CHART = "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4])\nplt.title('Growth')\nplt.show()\n"
SERVERS = (
    ("python", "m.py", "import json\njson.dum\n", {"line": 1, "character": 8}, "dumps"),
    ("typescript", "m.ts", "class Foo { bar() {} }\nnew Foo().\n", {"line": 1, "character": 10}, "bar"),
)
ELSEWHERE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/files/upload-v2?path=/etc/new", {"data": b"x"}),
    ("POST", "/files/folder?path=/opt/new&mode=755", {}),
    ("POST", "/files/move?source=/etc/debian_version&destination=/etc/moved", {}),
    ("POST", "/files/move?source=made&destination=/opt/made", {}),
    ("POST", "/files/permissions?path=/etc/passwd&mode=777", {}),
    ("DELETE", "/files?path=/etc/debian_version", {}),
    ("POST", "/files/archive?path=/opt/new", {"data": b""}),
    ("POST", "/git/init", {"json": {"path": "/opt/new"}}),
    ("POST", "/git/clone", {"json": {"url": f"{HOME}/made", "path": "/opt/new"}}),
    ("POST", "/git/config", {"json": {"key": "a.b", "value": "c", "scope": "system"}}),
)


def pod(engine: Engine, home: Path | None) -> list[str]:
    """Return the options that make a container what a pod of a restricted namespace is."""
    options = [
        *("--read-only", f"--user={UID}:0", "--cap-drop=all", "--security-opt=no-new-privileges"),
        *("--env=TOOLBOX_AUTH=init", "--env=DAYTONA_USER_HOME_AS_WORKDIR=true"),
    ]
    if engine.program == "podman":  # which would give the user a name, and the container more to write to
        options += ["--passwd=false", "--read-only-tmpfs=false"]
    if home is not None:
        home.mkdir()
        home.chmod(0o777)  # as the kubelet makes an emptyDir
        options += [f"--volume={home}:{HOME}", f"--env=HOME={HOME}"]
    return options


@asynccontextmanager
async def client(container: Container) -> AsyncIterator[Daemon]:
    """Take the daemon of a container into use, and give a client of it."""
    container.line(READY)
    url = f"http://127.0.0.1:{container.port}"
    # What a bad request says is shown with the test's failure, not an exception of aiohttp's.
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        async with http.get("/version") as response:
            assert response.status == 401
        async with http.post("/init", json={"token": TOKEN, "env": {"GREETING": "grüß dich"}}) as response:
            assert response.status == 200
        yield Daemon(url, Path(HOME), Path(HOME), http)


async def ask(daemon: Daemon, method: str, path: str, **options: Any) -> Any:
    """Send a request that must be carried out, and return the JSON answer."""
    async with daemon.http.request(method, path, **options) as response:
        text = await response.text()
        assert response.status < 300, (path, text)
        return json.loads(text) if text else None


def form(content: bytes) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("file", content, filename="file")
    return data


async def use_processes(daemon: Daemon) -> None:
    who = "id -u; echo $GREETING; python3 -c 'import getpass, os; print(getpass.getuser(), os.path.expanduser(\"~\"))'"
    assert (await daemon.execute(who))["result"] == f"{UID}\ngrüß dich\n{UID} {HOME}\n"
    await ask(daemon, "POST", "/process/session", json={"sessionId": "s"})
    command = {"command": "cd /; A=$GREETING; mktemp >/dev/null && pwd; (exit 4)"}
    done = await ask(daemon, "POST", "/process/session/s/exec", json=command)
    assert (done["exitCode"], done["output"]) == (4, "/\n"), done
    await ask(daemon, "POST", "/process/pty", json={"id": "t"})
    async with daemon.http.ws_connect("/process/pty/t/connect") as terminal:
        await terminal.send_bytes(b"echo $((6*7))$GREETING; exit 5\n")
        seen = b"".join([message.data async for message in terminal if message.type is aiohttp.WSMsgType.BINARY])
    assert "42grüß dich" in seen.decode(), seen
    drawn = await ask(daemon, "POST", "/process/code-run", json={"code": CHART, "language": "python"})
    assert drawn["exitCode"] == 0, drawn
    (chart,) = drawn["artifacts"]["charts"]
    assert (chart["title"], base64.b64decode(chart["png"])[:4]) == ("Growth", b"\x89PNG")
    code = {"code": "const n: number = 42; console.log(n)", "language": "typescript"}
    assert (await ask(daemon, "POST", "/process/code-run", json=code))["result"] == "42\n"
    ran = await run(daemon, "import os, numpy; print(os.environ['GREETING'], numpy.arange(7).sum())\n!id -u")
    assert (ran.text(), ran.of("error")) == (f"grüß dich 21\n{UID}\n", []), ran


async def use_files(daemon: Daemon) -> None:
    content = bytes(range(256)) * 4096
    await ask(daemon, "POST", "/files/upload-v2?path=made/bytes", data=form(content))
    async with daemon.http.get("/files/download?path=made/bytes") as response:
        assert await response.read() == content
    await ask(daemon, "POST", "/files/upload-v2?path=made/text", data=form(b"a needle\n"))
    (found,) = await ask(daemon, "GET", "/files/find?path=made&pattern=needle")
    assert (found["line"], found["content"]) == (1, "a needle")
    assert len((await ask(daemon, "GET", "/files/search?path=made&pattern=t*"))["files"]) == 1
    replaced = {"files": ["made/text"], "pattern": "needle", "newValue": "thread"}
    assert [each["success"] for each in await ask(daemon, "POST", "/files/replace", json=replaced)] == [True]
    await ask(daemon, "POST", "/files/permissions?path=made/text&mode=600")
    assert {each["name"] for each in await ask(daemon, "GET", "/files?path=made")} == {"bytes", "text"}


async def use_git_and_servers(daemon: Daemon) -> None:
    await ask(daemon, "POST", "/git/init", json={"path": "made"})
    await ask(daemon, "POST", "/git/add", json={"path": "made", "files": ["text"]})
    commit = {"path": "made", "message": "one", "author": "A", "email": "a@b"}
    await ask(daemon, "POST", "/git/commit", json=commit)
    await ask(daemon, "POST", "/git/clone", json={"url": f"{HOME}/made", "path": "cloned"})
    assert [each["message"] for each in await ask(daemon, "GET", "/git/history?path=cloned")] == ["one"]
    for language, file, text, position, label in SERVERS:
        await ask(daemon, "POST", f"/files/upload-v2?path=project/{file}", data=form(text.encode()))
        project = {"languageId": language, "pathToProject": "project"}
        await ask(daemon, "POST", "/lsp/start", json=project)
        document = {**project, "uri": f"file://{HOME}/project/{file}"}
        await ask(daemon, "POST", "/lsp/did-open", json=document)
        found = await ask(daemon, "POST", "/lsp/completions", json={**document, "position": position})
        assert label in [item["label"].partition("(")[0] for item in found["items"]], found
        await ask(daemon, "POST", "/lsp/stop", json=project)


async def write_elsewhere(daemon: Daemon) -> None:
    """Everything that would change the image is refused with an error that says so."""
    for method, path, options in ELSEWHERE:
        data = form(options["data"]) if "upload" in path else options.get("data")
        async with daemon.http.request(method, path, data=data, json=options.get("json")) as response:
            answer = await response.json()
        assert (response.status, answer["statusCode"], answer["source"]) == (403, 403, "DAYTONA_DAEMON"), (path, answer)
    async with daemon.http.post("/files/bulk-upload", data=bulk("/etc/new", "made/third")) as response:
        answer = await response.json()
    assert (response.status, len(answer["errors"])) == (400, 1), answer
    replaced = {"files": ["/etc/hosts"], "pattern": "l", "newValue": "x"}
    failed = await ask(daemon, "POST", "/files/replace", json=replaced)
    assert [each["success"] for each in failed] == [False]


def bulk(*paths: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    for number, path in enumerate(paths):
        data.add_field(f"files[{number}].path", path)
        data.add_field(f"files[{number}].file", b"x", filename="file")
    return data


@pytest.mark.parametrize("options", [WITH_TMP, ()], ids=["home and /tmp", "home alone"])
async def test_everything_works_in_a_pod(
    engine: Engine, sandbox_image: str, start_container: StartContainer, tmp_path: Path, options: tuple[str, ...]
) -> None:
    container = start_container(sandbox_image, "serve", options=[*pod(engine, tmp_path / "home"), *options])
    async with client(container) as daemon:
        await use_processes(daemon)
        await use_files(daemon)
        await use_git_and_servers(daemon)
        await write_elsewhere(daemon)
        temporary = "/tmp" if options else f"{HOME}/.cache/toolbox-tmp"
        assert (await daemon.execute("dirname $(mktemp)"))["result"] == f"{temporary}\n"
    assert container.terminate(STOP_SECONDS) == 0


def test_without_a_place_to_write_to_it_says_which(
    engine: Engine, sandbox_image: str, start_container: StartContainer
) -> None:
    container = start_container(sandbox_image, "serve", options=pod(engine, None))
    with pytest.raises(AssertionError, match=r"neither /tmp nor the home directory / nor .* can be written to"):
        container.line(READY)
    container = start_container(sandbox_image, "serve", options=[*pod(engine, None), *WITH_TMP])
    container.line(READY)
    said = [json.loads(line) for line in container.errors().splitlines() if line.startswith("{")]
    expected = f"the home directory / cannot be written to; state is kept in /tmp/sandbox-toolbox-{UID}"
    assert said[0]["message"] == expected
