"""Git acts as the workload user, who may not do what root may."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.conftest import run_daemon
from tests.git.conftest import AUTHOR, Client
from tests.git.http_server import PASSWORD, USERNAME, GitServer
from toolbox.config import ServeConfig

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="not possible here: acting as another user needs root")


@pytest.fixture
async def client(serve_config: Callable[..., ServeConfig], tmp_path: Path) -> AsyncIterator[Client]:
    """Run a daemon whose workload user is nobody, the owner of the work directory."""
    for above in tmp_path.parents:
        if "pytest" in str(above):
            above.chmod(0o755)
    tmp_path.chmod(0o755)
    config = serve_config(user="nobody")
    os.chown(config.work_dir, 65534, 65534)
    async with run_daemon(config) as daemon:
        async with daemon.http.post("/env", json={"set": {"HOME": str(config.work_dir)}}) as response:
            assert response.status < 300
        yield Client(daemon, config.work_dir)


async def test_everything_belongs_to_the_user(client: Client, server: GitServer) -> None:
    login = {"username": USERNAME, "password": PASSWORD}
    await client.ok("POST", "clone", url=server.url("private/it.git"), path="a/repo", **login)
    (client.work / "a/repo/new").write_text("of root, readable by all\n")
    (client.work / "a/repo/new").chmod(0o644)
    await client.ok("POST", "add", path="a/repo", files=["new"])
    await client.ok("POST", "commit", path="a/repo", message="m", **AUTHOR)
    await client.ok("POST", "push", path="a/repo", **login)
    await client.ok("POST", "config/user", name="n", email="e")
    assert (await client.ok("GET", "branches", path="a/repo"))["current"] == "main"
    for each in client.work.rglob("*"):
        assert each.name == "new" or each.lstat().st_uid == 65534, each


async def test_what_the_user_may_not(client: Client, server: GitServer, remotes: Path) -> None:
    closed = client.work / "closed"
    closed.mkdir(mode=0o700)
    (closed / "repo/.git/objects").mkdir(parents=True)
    (closed / "repo/.git/HEAD").write_text("ref: refs/heads/secret\n")
    for operation in ("status", "branches", "history", "remotes"):
        await client.refused(403, "FILE_ACCESS_DENIED", "GET", operation, path="closed/repo")
    await client.refused(403, "FILE_ACCESS_DENIED", "POST", "clone", url=server.url("open.git"), path="closed/new")
    status, _ = await client.call("POST", "init", path="closed/new")
    assert status == 403
    assert sorted(os.listdir(closed)) == ["repo"]
    await client.refused(403, "FORBIDDEN", "POST", "config", key="a.b", value="x", scope="system")
