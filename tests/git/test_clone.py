"""Clones, of real remotes: over HTTP, HTTPS and from files."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from tests.conftest import Toolboxd
from tests.git.conftest import Client, commit, git
from tests.git.http_server import PASSWORD, USERNAME, GitServer, serve
from toolbox.children import tree

LOGIN = {"username": USERNAME, "password": PASSWORD}


def everything_in(directory: Path) -> list[str]:
    # Not rglob: it fails where something is being removed.
    found = (f"{here}/{name}" for here, below, files in os.walk(directory) for name in below + files)
    return sorted(os.path.relpath(each, directory) for each in found)


async def test_clone_over_http(client: Client, server: GitServer) -> None:
    await client.ok("POST", "clone", url=server.url("open.git"), path="a/deep/repo")
    repo = client.work / "a/deep/repo"
    assert (repo / "file").read_text() == "more\n"
    assert git(repo, "branch", "-r").split() == ["origin/HEAD", "->", "origin/main", "origin/feature", "origin/main"]
    status = await client.status("a/deep/repo")
    assert status == {
        "currentBranch": "main",
        "fileStatus": [],
        "branchPublished": True,
        "ahead": 0,
        "behind": 0,
        "upstream": "origin/main",
        "detached": False,
    }


async def test_branch_tag_and_depth(client: Client, server: GitServer, remotes: Path) -> None:
    await client.ok("POST", "clone", url=server.url("open.git"), path="branch", branch="feature")
    assert (await client.status("branch"))["currentBranch"] == "feature"
    await client.ok("POST", "clone", url=server.url("open.git"), path="tag", branch="v1")
    assert (await client.status("tag"))["detached"]
    for name, url in (("over-http", server.url("open.git")), ("of-a-file", str(remotes / "open.git"))):
        await client.ok("POST", "clone", url=url, path=name, depth=1)
        assert git(client.work / name, "rev-list", "--count", "HEAD") == "1"
        assert (await client.status(name))["branchPublished"]
    await client.refused(400, "INVALID_REQUEST_BODY", "POST", "clone", url=server.url("open.git"), path="d", depth=-1)


async def test_commit(client: Client, server: GitServer, remotes: Path) -> None:
    first = git(remotes / "seed", "rev-parse", "main~1")
    await client.ok("POST", "clone", url=server.url("open.git"), path="full", commit_id=first)
    await client.ok("POST", "clone", url=server.url("open.git"), path="short", commit_id=first[:10])
    # Not among the commits that came with a depth of one.
    await client.ok("POST", "clone", url=server.url("open.git"), path="shallow", commit_id=first, depth=1)
    for name in ("full", "short", "shallow"):
        assert git(client.work / name, "rev-parse", "HEAD") == first
        status = await client.status(name)
        assert (status["currentBranch"], status["detached"], status["upstream"]) == ("HEAD", True, "")
    before = everything_in(client.work)
    for missing in ("0" * 40, "abcdef12"):
        await client.refused(
            404, "NOT_FOUND", "POST", "clone", url=server.url("open.git"), path="x/y", commit_id=missing
        )
    for wrong in ("--option", "main", "HEAD~1"):
        await client.refused(
            400, "BAD_REQUEST", "POST", "clone", url=server.url("open.git"), path="x/y", commit_id=wrong
        )
    assert everything_in(client.work) == before


async def test_into_directories(client: Client, remotes: Path) -> None:
    url = str(remotes / "open.git")
    (client.work / "empty").mkdir(mode=0o750)
    inode = (client.work / "empty").stat().st_ino
    await client.ok("POST", "clone", url=url, path="empty")
    status = (client.work / "empty").stat()
    assert (status.st_ino, status.st_mode & 0o777) == (inode, 0o750)
    (client.work / "full").mkdir()
    (client.work / "full/mine").write_text("mine")
    (client.work / "a file").write_text("mine")
    before = everything_in(client.work)
    await client.refused(409, "CONFLICT", "POST", "clone", url=url, path="full")
    await client.refused(409, "CONFLICT", "POST", "clone", url=url, path="empty")
    await client.refused(400, "INVALID_FILE_PATH", "POST", "clone", url=url, path="a file")
    await client.refused(400, "INVALID_FILE_PATH", "POST", "clone", url=url, path="a file/below")
    assert everything_in(client.work) == before


@pytest.mark.parametrize(
    ("url", "status", "code", "options"),
    [
        ("nope.git", 404, "GIT_REPO_NOT_FOUND", {}),
        ("empty.git", 404, "NOT_FOUND", {}),
        ("open.git", 404, "GIT_BRANCH_NOT_FOUND", {"branch": "nope"}),
        ("open.git", 404, "GIT_BRANCH_NOT_FOUND", {"branch": "--upload-pack=touch x"}),
        ("forbidden/it.git", 403, "FORBIDDEN", {}),
        ("broken/it.git", 502, "GIT_TRANSPORT_FAILED", {}),
        ("private/it.git", 401, "GIT_AUTH_FAILED", {}),
        ("private/it.git", 401, "GIT_AUTH_FAILED", {"username": "user"}),
        ("private/it.git", 401, "GIT_AUTH_FAILED", {"username": "user", "password": "wrong-word"}),
    ],
)
async def test_refusals_of_a_server(
    client: Client, server: GitServer, url: str, status: int, code: str, options: dict[str, str]
) -> None:
    (client.work / "there").mkdir()
    for path in ("not/there", "there"):
        message = await client.refused(status, code, "POST", "clone", url=server.url(url), path=path, **options)
        assert "wrong-word" not in message
    assert everything_in(client.work) == ["there"]


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("http://no.such.host.invalid/x.git", 502, "GIT_TRANSPORT_FAILED"),
        ("http://user:hunter2@127.0.0.1:9/x.git", 502, "GIT_TRANSPORT_FAILED"),
        ("git://127.0.0.1:9/x.git", 502, "GIT_TRANSPORT_FAILED"),
        ("/no/such/repository", 404, "GIT_REPO_NOT_FOUND"),
        ("relative/no-such", 404, "GIT_REPO_NOT_FOUND"),
        ("127.0.0.1:9/x.git", 502, "GIT_TRANSPORT_FAILED"),
        ("ext::sh -c touch% x", 400, "BAD_REQUEST"),
        ("gopher://x/y", 400, "BAD_REQUEST"),
        ("--upload-pack=touch x", 404, "GIT_REPO_NOT_FOUND"),
        ("http://127.0.0.1:9/a\nb", 400, "BAD_REQUEST"),
        ("http://127.0.0.1:9/a\0b", 400, "BAD_REQUEST"),
        ("", 400, "INVALID_REQUEST_BODY"),
    ],
)
async def test_urls_that_lead_nowhere(client: Client, url: str, status: int, code: str) -> None:
    message = await client.refused(status, code, "POST", "clone", url=url, path="a/b")
    assert "hunter2" not in message
    assert everything_in(client.work) == []


async def test_unusual_paths(client: Client, remotes: Path) -> None:
    for path in ("with space", "--option", "new\nline", "quo'te\"", "glob*[a]", "ünïcode", "\ufffdxff"):
        await client.ok("POST", "clone", url=str(remotes / "open.git"), path=path)
        assert (await client.status(path))["currentBranch"] == "main"
    assert (client.work / "\udcff/.git").is_dir()
    await client.refused(400, "INVALID_FILE_PATH", "POST", "clone", url=str(remotes / "open.git"), path="nul\0")


# Logins


@pytest.mark.parametrize("by_url", [False, True])
async def test_a_login_leaves_no_trace(
    client: Client, server: GitServer, by_url: bool, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # A helper of the user's, which git would have keep the login.
    for key in ("credential.helper", f"credential.{server.url('')}.helper"):
        await client.ok("POST", "config", key=key, value="store")
    if by_url:
        url = server.url("private/it.git", userinfo=f"{USERNAME}:{quote(PASSWORD, safe='')}@")
        await client.ok("POST", "clone", url=url, path="repo")
    else:
        await client.ok("POST", "clone", url=server.url("private/it.git"), path="repo", **LOGIN)
    assert git(client.work / "repo", "remote", "get-url", "origin") == server.url("private/it.git")
    for directory in (client.work, tmp_path / "home", tmp_path / "state"):
        for file in directory.rglob("*"):
            if file.is_file():
                content = file.read_bytes()
                assert b"secret word" not in content, file
                assert quote(PASSWORD, safe="").encode() not in content, file
    assert "secret" not in "".join(capfd.readouterr())
    await client.refused(401, "GIT_AUTH_FAILED", "POST", "pull", path="repo")
    await client.ok("POST", "pull", path="repo", **LOGIN)
    commit(client.work / "repo", "new")
    await client.refused(401, "GIT_AUTH_FAILED", "POST", "push", path="repo", username=USERNAME, password="wrong")
    await client.ok("POST", "push", path="repo", **LOGIN)
    assert not (tmp_path / "home/.git-credentials").exists()


async def test_a_login_is_in_no_argument_and_no_variable(client: Client, server: GitServer) -> None:
    request = asyncio.ensure_future(
        client.call("POST", "clone", url=server.url("stalled/it.git"), path="repo", **LOGIN)
    )
    await asyncio.to_thread(server.stalled.wait, 60)
    seen = 0
    for stat in await asyncio.to_thread(list, tree.all_processes()):
        try:
            read = [Path(f"/proc/{stat.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        except OSError:
            continue
        if server.url("stalled/it.git").encode() in read[0]:
            seen += 1
            assert b"secret word" not in read[0] + read[1]
    assert seen >= 1
    request.cancel()
    await asyncio.wait([request])


async def test_a_login_goes_to_its_own_server_only(client: Client, server: GitServer) -> None:
    await client.refused(401, "GIT_AUTH_FAILED", "POST", "clone", url=server.url("elsewhere/it.git"), path="r", **LOGIN)
    assert server.logins == []
    await client.ok("POST", "clone", url=server.url("private/it.git", host="localhost"), path="r", **LOGIN)
    assert len(server.logins) >= 1


async def test_a_kept_login(client: Client, server: GitServer, tmp_path: Path) -> None:
    host = server.url("").split("/")[2]
    for _ in range(2):
        await client.ok("POST", "credentials", host=host, protocol="http", **LOGIN)
    store = tmp_path / "home/.git-credentials"
    assert store.stat().st_mode & 0o777 == 0o600
    await client.ok("POST", "clone", url=server.url("private/it.git"), path="repo")
    await client.ok("POST", "pull", path="repo")
    assert store.read_text().count("\n") == 1
    for wrong in ({"host": "a\nb"}, {"host": "a/b"}, {"protocol": "no protocol"}, {"username": "a\nhost=b"}):
        await client.refused(400, "BAD_REQUEST", "POST", "credentials", **{**LOGIN, **wrong})
    await client.ok("POST", "credentials", username="u", password="p")
    assert "https://u:p@github.com\n" in store.read_text()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that nobody trusts."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    form = serialization.PrivateFormat.TraditionalOpenSSL
    pem = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()) + made.public_bytes(pem))
    return path


async def test_tls(client: Client, remotes: Path, certificate: Path, tmp_path: Path) -> None:
    with serve(remotes, certificate) as server:
        url = server.url("open.git")
        message = await client.refused(502, "GIT_TRANSPORT_FAILED", "POST", "clone", url=url, path="a")
        assert "certificate" in message
        await client.ok("POST", "clone", url=url, path="insecure", insecure_skip_tls=True)
        await client.refused(502, "GIT_TRANSPORT_FAILED", "POST", "pull", path="insecure")
        # A bundle that comes later is read at the next call.
        bundle = tmp_path / "bundle.pem"
        await client.ok("POST", "config", key="http.sslCAInfo", value=str(bundle))
        await client.refused(502, "GIT_TRANSPORT_FAILED", "POST", "clone", url=url, path="a")
        bundle.write_bytes(certificate.read_bytes())
        await client.ok("POST", "clone", url=url, path="a")
    assert sorted(os.listdir(client.work)) == ["a", "insecure"]


# What comes in between


async def test_a_stalled_remote_is_given_up(client: Client, server: GitServer) -> None:
    async with client.daemon.http.post("/env", json={"set": {"GIT_HTTP_LOW_SPEED_TIME": "1"}}) as response:
        assert response.status < 300
    for name in ("stalled/it.git", "stalled-pack/open.git"):
        await client.refused(502, "GIT_TRANSPORT_FAILED", "POST", "clone", url=server.url(name), path="a/b")
    assert everything_in(client.work) == []


@pytest.mark.parametrize("there", [False, True])
async def test_a_client_that_goes_away(client: Client, server: GitServer, there: bool) -> None:
    if there:
        (client.work / "a/b").mkdir(parents=True)
    before = everything_in(client.work)
    url = server.url("stalled-pack/open.git")
    request = asyncio.ensure_future(client.call("POST", "clone", url=url, path="a/b"))
    await asyncio.to_thread(server.stalled.wait, 60)
    assert (client.work / "a/b/.git").exists()
    request.cancel()
    await asyncio.wait([request])
    async with asyncio.timeout(60):
        while everything_in(client.work) != before or len(await asyncio.to_thread(_gits, url)):
            await asyncio.sleep(0.05)
    # The place is free again.
    await client.ok("POST", "clone", url=server.url("open.git"), path="a/b")


def _gits(text: str) -> list[int]:
    found = []
    for stat in tree.all_processes():
        try:
            if stat.state not in "ZX" and text.encode() in Path(f"/proc/{stat.pid}/cmdline").read_bytes():
                found.append(stat.pid)
        except OSError:
            continue
    return found


async def test_a_daemon_that_stops(
    start_toolboxd: Callable[..., Awaitable[Toolboxd]], reap_orphans: None, server: GitServer, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    toolboxd = await start_toolboxd("serve", "--port", "0", "--work-dir", str(tmp_path / "work"))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{await toolboxd.port()}") as http:
        body = {"url": server.url("stalled-pack/open.git"), "path": "a/b"}
        request = asyncio.ensure_future(http.post("/git/clone", json=body))
        await asyncio.to_thread(server.stalled.wait, 60)
        code, _ = await toolboxd.end()
        await asyncio.wait([request])
        assert request.exception() is not None or request.result().status >= 500
    assert code == 0
    assert everything_in(tmp_path / "work") == []


async def test_progress_is_logged(client: Client, server: GitServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "toolbox.git"):
        await client.ok("POST", "clone", url=server.url("open.git"), path="repo")
    steps = [record.fields for record in caplog.records if record.message == "git progress"]  # type: ignore[attr-defined]
    assert steps
    assert all(step["operation"] == "clone" for step in steps)
    assert any("Receiving objects: 100%" in step["progress"] for step in steps)


@pytest.fixture
def small_disk(client: Client) -> Iterator[Path]:
    """Mount a file system of a megabyte at `small`, and return the directory."""
    directory = client.work / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("not possible here: mounting a tmpfs needs root")
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
async def test_a_full_disk(client: Client, small_disk: Path, remotes: Path, size: int) -> None:
    # The history fits, the files do not; or neither does.
    line = "a line that packs well\n" if size < 1_000_000 else os.urandom(500).hex()
    for number in range(20):
        commit(remotes / "seed", f"large {number}", (line * (size // len(line) + 1)))
    for path in ("small", "small/below"):
        fields = {"path": path, "url": (remotes / "seed").as_uri()}
        await client.refused(507, "INSUFFICIENT_STORAGE", "POST", "clone", **fields)
        assert list(small_disk.iterdir()) == []


async def test_git_is_missing(client: Client, remotes: Path, tmp_path: Path) -> None:
    async with client.daemon.http.post("/env", json={"set": {"PATH": str(tmp_path)}}) as response:
        assert response.status < 300
    await client.refused(503, "SERVICE_UNAVAILABLE", "POST", "clone", url=str(remotes / "open.git"), path="repo")
    assert everything_in(client.work) == []
