"""Add, commit, branches, checkout, reset, restore, init, and several at once."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.git.conftest import AUTHOR, Client, commit, git

NOT_NAMES = [
    "a b",
    "bad..name",
    "--option",
    "-",
    "x.lock",
    "a\nb",
    "a:b",
    "@{-1}",
    "@",
    "a/",
    "/a",
    "a~1",
    "nul\0",
    "HEAD",
]


async def test_add(client: Client, repo: Path) -> None:
    commit(repo, "gone")
    (repo / "gone").unlink()
    for name in ("a", "b.txt", "dir/c", "*.txt"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text("x")
    await client.ok("POST", "add", path="repo", files=[])
    await client.ok("POST", "add", path="repo", files=["a", "gone", "dir", str(repo / "a")])
    await client.ok("POST", "add", path="repo", files=["*.txt"])
    assert await client.files() == {
        "*.txt": ("Added", "Unmodified"),
        "a": ("Added", "Unmodified"),
        "b.txt": ("Untracked", "Untracked"),
        "dir/c": ("Added", "Unmodified"),
        "gone": ("Deleted", "Unmodified"),
    }
    (repo / "dir/d").write_text("x")
    await client.ok("POST", "add", path="repo/dir", files=["d"])
    await client.ok("POST", "add", path="repo", files=["."])
    assert "Untracked" not in {state for states in (await client.files()).values() for state in states}
    (repo / ".gitignore").write_text("*.log")
    (repo / "x.log").write_text("x")
    for wrong in ("missing", "?.txt", "", "/etc/passwd", "../outside", "x.log", ":(top)a", ".git/config/x"):
        await client.refused(400, "BAD_REQUEST", "POST", "add", path="repo", files=["a", wrong])
    await client.refused(400, "INVALID_FILE_PATH", "POST", "add", path="repo", files=["nul\0"])
    await client.refused(400, "INVALID_REQUEST_BODY", "POST", "add", path="repo")
    await client.refused(404, "GIT_REPO_NOT_FOUND", "POST", "add", path="missing", files=["."])


async def test_commit(client: Client, repo: Path) -> None:
    (repo / "new").write_text("x")
    await client.ok("POST", "add", path="repo", files=["new"])
    hash_ = (await client.ok("POST", "commit", path="repo", message="subject\n\n# body", **AUTHOR))["hash"]
    assert git(repo, "rev-parse", "HEAD") == hash_
    assert git(repo, "log", "-1", "--format=%an|%ae|%cn|%ce").split("|") == [*AUTHOR.values(), *AUTHOR.values()]
    [last, first] = await client.ok("GET", "history", path="repo")
    assert last | {"timestamp": ""} == {
        "hash": hash_,
        "author": "An Author",
        "email": "an@author.example",
        "message": "subject\n\n# body",
        "timestamp": "",
    }
    assert first["message"] == "message\n"
    for _ in range(2):
        message = await client.refused(409, "CONFLICT", "POST", "commit", path="repo", message="m", **AUTHOR)
        assert "nothing" in message
        (repo / "untracked").write_text("x")
    again = (await client.ok("POST", "commit", path="repo", message="empty", allow_empty=True, **AUTHOR))["hash"]
    assert git(repo, "rev-parse", "HEAD~1") == hash_
    assert again != hash_
    for wrong in ({"message": ""}, {"author": ""}, {"email": ""}, {"email": None}):
        fields: dict[str, Any] = {"message": "m", **AUTHOR, **wrong}
        await client.refused(400, "INVALID_REQUEST_BODY", "POST", "commit", path="repo", allow_empty=True, **fields)
    for wrong in ({"message": " \n"}, {"author": "<>"}, {"author": "a\0b"}):
        fields = {"message": "m", **AUTHOR, **wrong}
        await client.refused(400, "BAD_REQUEST", "POST", "commit", path="repo", allow_empty=True, **fields)


async def test_commit_of_nothing_yet(client: Client) -> None:
    await client.ok("POST", "init", path="repo")
    await client.refused(409, "CONFLICT", "POST", "commit", path="repo", message="m", **AUTHOR)
    await client.ok("POST", "commit", path="repo", message="ünï: --option\n", allow_empty=True, **AUTHOR)
    [first] = await client.ok("GET", "history", path="repo")
    assert first["message"] == "ünï: --option\n"


async def test_commit_runs_no_hooks(client: Client, repo: Path) -> None:
    for name in ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit"):
        (repo / ".git/hooks").mkdir(exist_ok=True)
        hook = repo / ".git/hooks" / name
        hook.write_text("#!/bin/sh\ntouch hooked\nexit 1\n")
        hook.chmod(0o755)
    await client.ok("POST", "commit", path="repo", message="m", allow_empty=True, **AUTHOR)
    assert not (repo / "hooked").exists()


async def test_history(client: Client, repo: Path) -> None:
    environment = "GIT_AUTHOR_DATE=2026-01-02T03:04:05+0530"
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "far away", "--date", environment.partition("=")[2])
    git(repo, "commit", "--quiet", "--allow-empty", "-m", "utc", "--date", "2026-01-02T03:04:05Z")
    found = await client.ok("GET", "history", path="repo")
    assert [each["message"] for each in found] == ["utc\n", "far away\n", "message\n"]
    assert [each["timestamp"] for each in found[:2]] == ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05+05:30"]
    assert await client.ok("GET", "history", path="repo", limit=1, offset=1) == found[1:2]
    await client.ok("POST", "config", key="log.showSignature", value="true")
    assert await client.ok("GET", "history", path="repo/.", offset=0) == found
    await client.refused(400, "BAD_REQUEST", "GET", "history", path="repo", limit=0)


async def test_branches(client: Client, repo: Path) -> None:
    await client.ok("POST", "branches", path="repo", name="feature/one")
    assert (await client.status())["currentBranch"] == "feature/one"
    found = {"branches": ["feature/one", "main"], "current": "feature/one"}
    assert await client.ok("GET", "branches", path="repo") == found
    git(repo, "pack-refs", "--all")
    git(repo, "tag", "v1")
    assert await client.ok("GET", "branches", path="repo") == found
    assert await client.ok("GET", "branches", path="repo/.git") == found
    await client.refused(409, "GIT_BRANCH_EXISTS", "POST", "branches", path="repo", name="main")
    await client.refused(409, "CONFLICT", "POST", "branches", path="repo", name="main/below")
    for name in NOT_NAMES:
        await client.refused(400, "BAD_REQUEST", "POST", "branches", path="repo", name=name)
    await client.refused(400, "INVALID_REQUEST_BODY", "POST", "branches", path="repo", name="")
    assert await client.ok("GET", "branches", path="repo") == found


async def test_delete_branch(client: Client, repo: Path) -> None:
    await client.refused(409, "CONFLICT", "DELETE", "branches", path="repo", name="main")
    git(repo, "checkout", "--quiet", "-b", "unmerged")
    commit(repo, "more")
    await client.refused(409, "CONFLICT", "DELETE", "branches", path="repo", name="unmerged")
    git(repo, "checkout", "--quiet", "main")
    await client.ok("DELETE", "branches", path="repo", name="unmerged")
    for name in ("unmerged", "--force", "*", "HEAD", "a b"):
        await client.refused(404, "GIT_BRANCH_NOT_FOUND", "DELETE", "branches", path="repo", name=name)
    assert await client.ok("GET", "branches", path="repo") == {"branches": ["main"], "current": "main"}
    await client.ok("POST", "init", path="new", initial_branch="trunk")
    await client.refused(409, "CONFLICT", "DELETE", "branches", path="new", name="trunk")


async def test_checkout(client: Client, remotes: Path) -> None:
    await client.ok("POST", "clone", url=str(remotes / "open.git"), path="repo")
    repo = client.work / "repo"
    await client.ok("POST", "checkout", path="repo", branch="feature")
    found = await client.status()
    assert (found["currentBranch"], found["upstream"]) == ("feature", "origin/feature")
    commit_ = git(repo, "rev-parse", "HEAD")
    for revision in (commit_, commit_[:8], "v1", "HEAD~1"):
        await client.ok("POST", "checkout", path="repo", branch=revision)
        assert (await client.status())["detached"]
    await client.ok("POST", "checkout", path="repo", branch="main")
    for missing in ("nope", "0" * 40, "file"):
        code = "GIT_BRANCH_NOT_FOUND" if len(missing) < 40 else "NOT_FOUND"
        await client.refused(404, code, "POST", "checkout", path="repo", branch=missing)
    for wrong in ("--orphan=x", "-", "-b"):
        await client.refused(400, "BAD_REQUEST", "POST", "checkout", path="repo", branch=wrong)
    (repo / "file").write_text("mine")
    message = await client.refused(409, "GIT_DIRTY_WORKTREE", "POST", "checkout", path="repo", branch="feature")
    assert "file" in message
    git(repo, "checkout", "--quiet", "file")
    (repo / "feature.txt").write_text("mine, and untracked")
    await client.refused(409, "GIT_DIRTY_WORKTREE", "POST", "checkout", path="repo", branch="feature")
    assert (repo / "feature.txt").read_text() == "mine, and untracked"


async def test_reset(client: Client, repo: Path) -> None:
    first = git(repo, "rev-parse", "HEAD")
    second = commit(repo, "second")
    (repo / "second").write_text("changed")
    git(repo, "add", "second")
    await client.ok("POST", "reset", path="repo")
    assert await client.files() == {"second": ("Unmodified", "Modified")}
    git(repo, "add", "second")
    await client.ok("POST", "reset", path="repo", files=["second"])
    assert await client.files() == {"second": ("Unmodified", "Modified")}
    await client.ok("POST", "reset", path="repo", mode="soft", target="HEAD~1")
    assert await client.files() == {"second": ("Added", "Modified")}
    await client.ok("POST", "reset", path="repo", mode="hard", target=second)
    assert await client.files() == {}
    await client.ok("POST", "reset", path="repo", mode="mixed", target=first, files=["second"])
    assert git(repo, "rev-parse", "HEAD") == second
    # Deleted as far as the next commit is concerned, and a file that git does not know.
    assert [each["staging"] for each in (await client.status())["fileStatus"]] == ["Deleted", "Untracked"]
    (repo / "second").write_text("changed")
    await client.ok("POST", "reset", path="repo", mode="hard")
    (repo / "second").write_text("changed")
    assert (await client.call("POST", "reset", path="repo", mode="keep", target=first))[0] == 409
    assert (await client.call("POST", "reset", path="repo", mode="merge", target=first))[0] == 409
    assert git(repo, "rev-parse", "HEAD") == second
    await client.refused(400, "BAD_REQUEST", "POST", "reset", path="repo", mode="hard", files=["second"])
    await client.refused(400, "INVALID_REQUEST_BODY", "POST", "reset", path="repo", mode="harder")
    await client.refused(400, "BAD_REQUEST", "POST", "reset", path="repo", target="--hard")
    await client.refused(404, "NOT_FOUND", "POST", "reset", path="repo", target="nope")
    await client.ok("POST", "init", path="new")
    (client.work / "new/file").write_text("x")
    await client.ok("POST", "add", path="new", files=["file"])
    await client.ok("POST", "reset", path="new", target="HEAD")
    assert await client.files("new") == {"file": ("Untracked", "Untracked")}


async def test_restore(client: Client, repo: Path) -> None:
    file = repo / "file"
    commit(repo, "file", "second\n")
    file.write_text("changed")
    await client.ok("POST", "restore", path="repo", files=["file"])
    assert file.read_text() == "second\n"
    file.write_text("changed")
    git(repo, "add", "file")
    await client.ok("POST", "restore", path="repo", files=["file"], staged=True)
    assert await client.files() == {"file": ("Unmodified", "Modified")}
    git(repo, "add", "file")
    await client.ok("POST", "restore", path="repo", files=["file"], staged=True, worktree=True)
    assert await client.files() == {}
    await client.ok("POST", "restore", path="repo", files=["file"], source="HEAD~1", staged=False, worktree=False)
    assert (file.read_text(), await client.files()) == ("content\n", {"file": ("Unmodified", "Modified")})
    for wrong in ("missing", "--staged", "*"):
        await client.refused(400, "BAD_REQUEST", "POST", "restore", path="repo", files=["file", wrong])
    assert file.read_text() == "content\n"
    await client.refused(404, "NOT_FOUND", "POST", "restore", path="repo", files=["file"], source="nope")
    await client.refused(400, "INVALID_REQUEST_BODY", "POST", "restore", path="repo", files=[])


async def test_init(client: Client) -> None:
    await client.ok("POST", "init", path="a/b", initial_branch="trunk")
    commit(client.work / "a/b")
    await client.ok("POST", "init", path="a/b", initial_branch="other")
    assert await client.ok("GET", "branches", path="a/b") == {"branches": ["trunk"], "current": "trunk"}
    await client.ok("POST", "init", path="bare.git", bare=True)
    assert git(client.work / "bare.git", "rev-parse", "--is-bare-repository") == "true"
    (client.work / "file").touch()
    for path in ("file", "file/below"):
        got, body = await client.call("POST", "init", path=path)
        assert got in (400, 409), body
    await client.refused(400, "BAD_REQUEST", "POST", "init", path="c", initial_branch="a b")
    assert not (client.work / "c").exists()


# Several at once


async def test_changes_queue(client: Client, repo: Path) -> None:
    for number in range(12):
        (repo / f"new {number}").write_text("x")
    adds = [client.ok("POST", "add", path="repo", files=[f"new {number}"]) for number in range(12)]
    looks = [client.status() for _ in range(4)]
    empty = [
        client.ok("POST", "commit", path="repo/.", message=f"{number}", allow_empty=True, **AUTHOR)
        for number in range(6)
    ]
    await asyncio.gather(*adds, *looks, *empty)
    assert len(await client.ok("GET", "history", path="repo")) == 7
    await client.ok("POST", "commit", path="repo", message="rest", allow_empty=True, **AUTHOR)
    assert await client.files() == {}
    assert len(git(repo, "ls-files").splitlines()) == 13


async def test_the_queue_goes_on_after_one_that_leaves(client: Client, repo: Path) -> None:
    hook = repo / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho $$ > .git/hooked\nsleep 1000\n")
    hook.chmod(0o755)
    first = asyncio.ensure_future(_create_branch(client, "one"))
    async with asyncio.timeout(60):
        while not (repo / ".git/hooked").exists() or not (repo / ".git/hooked").read_text().strip():
            await asyncio.sleep(0.02)
    hook.unlink()
    second = asyncio.ensure_future(_create_branch(client, "two"))
    await asyncio.sleep(0.1)
    assert not second.done()
    first.cancel()
    await asyncio.wait([first])
    assert (await asyncio.wait_for(second, 60))[0] == 201
    hooked = Path(f"/proc/{(repo / '.git/hooked').read_text().strip()}")
    async with asyncio.timeout(60):
        while hooked.exists():  # killed, but not yet waited for
            await asyncio.sleep(0.02)


async def _create_branch(client: Client, name: str) -> tuple[int, Any]:
    return await client.call("POST", "branches", path="repo", name=name)


async def test_a_large_file(client: Client, repo: Path) -> None:
    with (repo / "large").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    await client.ok("POST", "config", key="core.bigFileThreshold", value="1m")
    await client.ok("POST", "add", path="repo", files=["large"])
    await client.ok("POST", "commit", path="repo", message="large", **AUTHOR)
    assert await client.files() == {}


# Configuration


async def test_config(client: Client, repo: Path, tmp_path: Path) -> None:
    assert await client.ok("GET", "config", key="user.name") == {"value": None}
    await client.ok("POST", "config/user", name="Ünï", email="u@x")
    assert await client.ok("GET", "config", key="user.name") == {"value": "Ünï"}
    assert await client.ok("GET", "config", key="user.email", scope="global", path="repo") == {"value": "u@x"}
    assert "Ünï" in (tmp_path / "home/.gitconfig").read_text()
    assert await client.ok("GET", "config", key="user.name", scope="local", path="repo") == {"value": None}
    await client.ok("POST", "config/user", name="Local", email="l@x", scope="local", path="repo")
    assert await client.ok("GET", "config", key="user.name", scope="local", path="repo") == {"value": "Local"}
    for value in ("--option", "-", "two\nlines", ' "quoted" ', "#;", "", "a\\b"):
        for scope in ({}, {"scope": "local", "path": "repo"}):
            await client.ok("POST", "config", key="test.value", value=value, **scope)
            assert await client.ok("GET", "config", key="test.value", **scope) == {"value": value}
    git(repo, "config", "--add", "test.many", "1")
    git(repo, "config", "--add", "test.many", "2")
    assert await client.ok("GET", "config", key="test.many", scope="local", path="repo") == {"value": "2"}
    await client.ok("POST", "config", key="test.many", value="3", scope="local", path="repo")
    assert git(repo, "config", "--get-all", "test.many") == "3"
    assert (await client.ok("GET", "config", key="no.such", scope="system")) == {"value": None}


async def test_config_that_is_wrong(client: Client, repo: Path) -> None:
    for key in ("nosection", "a.", ".b", "a.b c", "--list", "a.9\n"):
        await client.refused(400, "BAD_REQUEST", "GET", "config", key=key)
        await client.refused(400, "BAD_REQUEST", "POST", "config", key=key, value="x")
    await client.refused(400, "BAD_REQUEST", "GET", "config", key="a.b", scope="local")
    await client.refused(400, "BAD_REQUEST", "POST", "config", key="a.b", value="x", scope="local")
    await client.refused(400, "BAD_REQUEST", "GET", "config", key="a.b", scope="galaxy")
    await client.refused(400, "INVALID_REQUEST_BODY", "POST", "config", key="a.b", value="x", scope="galaxy")
    await client.refused(404, "GIT_REPO_NOT_FOUND", "GET", "config", key="a.b", scope="local", path="nope")
    await client.refused(400, "BAD_REQUEST", "POST", "config", key="a.b", value="nul\0")
    (repo / ".git/config").write_text("[broken\n")
    await client.refused(400, "BAD_REQUEST", "GET", "config", key="a.b", scope="local", path="repo")
    await client.ok("POST", "config", key="a.b", value="still works", path="repo")


@pytest.mark.skipif(os.getuid() == 0, reason="not possible here: root may write the configuration of the system")
async def test_config_of_the_system(client: Client) -> None:
    await client.refused(403, "FORBIDDEN", "POST", "config", key="a.b", value="x", scope="system")
