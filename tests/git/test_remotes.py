"""Push, pull and remotes, with real remotes."""

from pathlib import Path
from typing import Any

import pytest

from tests.git.conftest import AUTHOR, Client, commit, git, make
from tests.git.http_server import PASSWORD, USERNAME, GitServer

LOGIN = {"username": USERNAME, "password": PASSWORD}


@pytest.fixture
async def cloned(client: Client, server: GitServer) -> Path:
    """Clone the open repository to `repo`."""
    await client.ok("POST", "clone", url=server.url("open.git"), path="repo")
    return client.work / "repo"


def on_remote(remotes: Path, branch: str = "main", name: str = "open.git") -> str:
    return git(remotes / name, "rev-parse", branch)


def moves_on(remotes: Path, file: str = "theirs", content: str = "theirs\n", branch: str = "main") -> str:
    """Have somebody else push."""
    git(remotes / "seed", "checkout", "--quiet", branch)
    head = commit(remotes / "seed", file, content)
    git(remotes / "seed", "push", "--quiet", str(remotes / "open.git"), branch)
    return head


async def test_push(client: Client, cloned: Path, remotes: Path) -> None:
    await client.ok("POST", "push", path="repo")
    head = commit(cloned, "ours")
    assert (await client.status())["ahead"] == 1
    await client.ok("POST", "push", path="repo")
    assert on_remote(remotes) == head
    assert (await client.status())["ahead"] == 0
    await client.ok("POST", "branches", path="repo", name="new/one")
    await client.ok("POST", "push", path="repo")
    assert on_remote(remotes, "new/one") == head
    assert (await client.status())["upstream"] == ""
    await client.ok("POST", "push", path="repo", set_upstream=True)
    found = await client.status()
    assert (found["upstream"], found["branchPublished"]) == ("origin/new/one", True)
    await client.ok("POST", "checkout", path="repo", branch="main")
    git(cloned, "branch", "other")
    await client.ok("POST", "push", path="repo", branch="other", remote="origin")
    assert on_remote(remotes, "other") == head


async def test_push_of_more_than_one_post(client: Client, cloned: Path, remotes: Path) -> None:
    with (cloned / "large").open("wb") as file, Path("/dev/urandom").open("rb") as noise:
        file.write(noise.read(3 << 20))
    await client.ok("POST", "add", path="repo", files=["large"])
    hash_ = (await client.ok("POST", "commit", path="repo", message="m", **AUTHOR))["hash"]
    await client.ok("POST", "push", path="repo")
    assert on_remote(remotes) == hash_


async def test_push_refused(client: Client, cloned: Path, remotes: Path) -> None:
    theirs = moves_on(remotes)
    commit(cloned, "ours")
    message = await client.refused(409, "GIT_PUSH_REJECTED", "POST", "push", path="repo")
    assert "fetch first" in message
    git(cloned, "fetch", "--quiet")
    assert "non-fast-forward" in await client.refused(409, "GIT_PUSH_REJECTED", "POST", "push", path="repo")
    assert on_remote(remotes) == theirs
    git(cloned, "reset", "--quiet", "--hard", "origin/main")
    commit(cloned, "ours")
    hook = remotes / "open.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n")
    hook.chmod(0o755)
    message = await client.refused(422, "GIT_REMOTE_REJECTED", "POST", "push", path="repo")
    assert "not on a Friday" in message
    assert "pre-receive hook declined" in message


async def test_push_that_cannot_be(client: Client, cloned: Path, tmp_path: Path) -> None:
    await client.refused(404, "GIT_BRANCH_NOT_FOUND", "POST", "push", path="repo", branch="nope")
    for branch in ("a:b", "+main", "*", "--all"):
        got, body = await client.call("POST", "push", path="repo", branch=branch)
        assert got in (400, 404), body
    for remote in ("nope", "http://127.0.0.1:9/x"):
        await client.refused(404, "NOT_FOUND", "POST", "push", path="repo", remote=remote)
    await client.refused(400, "BAD_REQUEST", "POST", "push", path="repo", remote="--all")
    git(cloned, "checkout", "--quiet", "--detach")
    await client.refused(400, "BAD_REQUEST", "POST", "push", path="repo")
    await client.refused(400, "BAD_REQUEST", "POST", "pull", path="repo")
    await client.ok("POST", "push", path="repo", branch="main")
    make(client.work / "alone")
    for operation in ("push", "pull"):
        await client.refused(404, "NOT_FOUND", "POST", operation, path="alone")
    await client.ok("POST", "init", path="new")
    await client.ok("POST", "remotes", path="new", name="origin", url=str(tmp_path / "remotes/empty.git"))
    await client.refused(404, "GIT_BRANCH_NOT_FOUND", "POST", "push", path="new")


async def test_a_hook_of_ours_refuses(client: Client, cloned: Path) -> None:
    hook = cloned / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'tests are red' >&2\nexit 1\n")
    hook.chmod(0o755)
    commit(cloned, "ours")
    assert "tests are red" in await client.refused(409, "GIT_PUSH_REJECTED", "POST", "push", path="repo")


async def test_first_push_to_an_empty_remote(client: Client, remotes: Path) -> None:
    await client.ok("POST", "init", path="repo", initial_branch="main")
    await client.ok("POST", "remotes", path="repo", name="origin", url=str(remotes / "empty.git"))
    await client.refused(404, "GIT_BRANCH_NOT_FOUND", "POST", "pull", path="repo")
    hash_ = (await client.ok("POST", "commit", path="repo", message="m", allow_empty=True, **AUTHOR))["hash"]
    await client.ok("POST", "push", path="repo", set_upstream=True)
    assert on_remote(remotes, name="empty.git") == hash_
    await client.ok("POST", "pull", path="repo")


async def test_pull(client: Client, cloned: Path, remotes: Path) -> None:
    await client.ok("POST", "pull", path="repo")
    theirs = moves_on(remotes)
    await client.ok("POST", "config", key="pull.rebase", value="true")
    await client.ok("POST", "pull", path="repo")
    assert git(cloned, "rev-parse", "HEAD") == theirs
    found = await client.status()
    assert (found["ahead"], found["behind"]) == (0, 0)
    # A branch that follows another name, and one that follows nothing.
    git(cloned, "checkout", "--quiet", "-b", "mine", "--track", "origin/feature")
    theirs = moves_on(remotes, "on feature", branch="feature")
    await client.ok("POST", "pull", path="repo")
    assert git(cloned, "rev-parse", "HEAD") == theirs
    git(cloned, "checkout", "--quiet", "--no-track", "-b", "loose", "main")
    await client.refused(404, "GIT_BRANCH_NOT_FOUND", "POST", "pull", path="repo")
    await client.ok("POST", "pull", path="repo", branch="main")
    await client.refused(404, "GIT_BRANCH_NOT_FOUND", "POST", "pull", path="repo", branch="nope")
    await client.refused(400, "BAD_REQUEST", "POST", "pull", path="repo", branch="--all")


async def test_pull_from_another_remote(client: Client, cloned: Path, remotes: Path, tmp_path: Path) -> None:
    fork = tmp_path / "fork"
    git(tmp_path, "clone", "--quiet", str(remotes / "open.git"), "fork")
    theirs = commit(fork, "forked")
    await client.ok("POST", "remotes", path="repo", name="upstream", url=str(fork), fetch=True)
    await client.ok("POST", "pull", path="repo", remote="upstream")
    assert git(cloned, "rev-parse", "HEAD") == theirs


async def test_pull_refused(client: Client, cloned: Path, remotes: Path) -> None:
    moves_on(remotes, "file", "theirs\n")
    (cloned / "file").write_text("mine\n")
    message = await client.refused(409, "GIT_DIRTY_WORKTREE", "POST", "pull", path="repo")
    assert "file" in message
    assert (cloned / "file").read_text() == "mine\n"
    git(cloned, "checkout", "--quiet", "file")
    head = commit(cloned, "ours")
    await client.refused(409, "GIT_MERGE_CONFLICT", "POST", "pull", path="repo")
    assert git(cloned, "rev-parse", "HEAD") == head
    assert await client.files() == {}


@pytest.mark.parametrize("operation", ["pull", "push"])
async def test_remotes_that_fail(client: Client, cloned: Path, server: GitServer, operation: str) -> None:
    expected: list[tuple[str, int, str, dict[str, Any]]] = [
        ("private/it.git", 401, "GIT_AUTH_FAILED", {}),
        ("private/it.git", 401, "GIT_AUTH_FAILED", {"username": "user", "password": "wrong"}),
        ("forbidden/it.git", 403, "FORBIDDEN", {}),
        ("nope.git", 404, "GIT_REPO_NOT_FOUND", {}),
        ("broken/it.git", 502, "GIT_TRANSPORT_FAILED", {}),
    ]
    for name, status, code, more in expected:
        git(cloned, "remote", "set-url", "origin", server.url(name))
        await client.refused(status, code, "POST", operation, path="repo", **more)
    git(cloned, "remote", "set-url", "origin", "http://user:hunter22@127.0.0.1:9/x.git")
    message = await client.refused(502, "GIT_TRANSPORT_FAILED", "POST", operation, path="repo")
    assert "hunter22" not in message
    assert "hunter22" not in str(await client.ok("GET", "remotes", path="repo"))


async def test_remotes(client: Client, repo: Path, remotes: Path, server: GitServer) -> None:
    assert await client.ok("GET", "remotes", path="repo") == {"remotes": []}
    first = str(remotes / "open.git")
    await client.ok("POST", "remotes", path="repo", name="origin", url=first)
    await client.ok("POST", "remotes", path="repo", name="a.b/c", url="git@example.com:x/y.git")
    await client.ok("POST", "remotes", path="repo", name="ssh", url="ssh://git:word@example.com/x")
    found = [
        {"name": "a.b/c", "url": "git@example.com:x/y.git"},
        {"name": "origin", "url": first},
        {"name": "ssh", "url": "ssh://git@example.com/x"},
    ]
    assert await client.ok("GET", "remotes", path="repo") == {"remotes": found}
    await client.refused(409, "CONFLICT", "POST", "remotes", path="repo", name="origin", url="x")
    url = server.url("private/it.git", userinfo="user:hunter22@")
    await client.ok("POST", "remotes", path="repo", name="origin", url=url, overwrite=True)
    assert "hunter22" not in (repo / ".git/config").read_text()
    assert git(repo, "remote", "get-url", "origin") == server.url("private/it.git")
    for name in ("a b", "--fetch", "x..y", "a\nb", ""):
        got, body = await client.call("POST", "remotes", path="repo", name=name, url="x")
        assert (got, body["statusCode"]) == (400, 400), body
    await client.ok("POST", "config", key="remote.origin.url", value=url, scope="local", path="repo")
    assert "hunter22" not in (repo / ".git/config").read_text()


async def test_remotes_with_fetch(client: Client, repo: Path, server: GitServer) -> None:
    url = server.url("private/it.git", userinfo="user:secret word%2F%40%3A@")
    await client.ok("POST", "remotes", path="repo", name="origin", url=url, fetch=True)
    assert git(repo, "branch", "-r").split() == ["origin/feature", "origin/main"]
    for name, status, code in (
        ("nope.git", 404, "GIT_REPO_NOT_FOUND"),
        ("private/it.git", 401, "GIT_AUTH_FAILED"),
    ):
        await client.refused(
            status, code, "POST", "remotes", path="repo", name="second", url=server.url(name), fetch=True
        )
    assert [each["name"] for each in (await client.ok("GET", "remotes", path="repo"))["remotes"]] == ["origin"]
