"""What is told about a work tree."""

import os
from pathlib import Path

import pytest

from tests.git.conftest import Client, commit, git, make
from tests.git.http_server import GitServer
from toolbox.git import status
from toolbox.git.models import FileStatus

UNMODIFIED, CONFLICT = "Unmodified", "Updated but unmerged"


async def test_kinds_of_changes(client: Client, repo: Path) -> None:
    for name in ("modified", "staged", "both", "deleted", "removed", "link", "old name"):
        commit(repo, name, f"the content of {name}\n" * 5)
    for name in ("modified", "staged", "both"):
        (repo / name).write_text("changed\n")
    git(repo, "add", "staged", "both")
    (repo / "both").write_text("changed again\n")
    (repo / "deleted").unlink()
    git(repo, "rm", "--quiet", "removed")
    (repo / "link").unlink()
    (repo / "link").symlink_to("file")
    git(repo, "mv", "old name", "new name")
    (repo / "added").write_text("new\n")
    git(repo, "add", "added")
    (repo / "intended").write_text("x\n")
    git(repo, "add", "--intent-to-add", "intended")
    (repo / "deep/er").mkdir(parents=True)
    (repo / "deep/er/untracked").write_text("x")
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "ignored.log").write_text("x")
    assert await client.files() == {
        ".gitignore": ("Untracked", "Untracked"),
        "added": ("Added", UNMODIFIED),
        "both": ("Modified", "Modified"),
        "deep/er/untracked": ("Untracked", "Untracked"),
        "deleted": (UNMODIFIED, "Deleted"),
        "intended": (UNMODIFIED, "Added"),
        "link": (UNMODIFIED, "Modified"),
        "modified": (UNMODIFIED, "Modified"),
        "new name": ("Renamed", UNMODIFIED),
        "removed": ("Deleted", UNMODIFIED),
        "staged": ("Modified", UNMODIFIED),
    }
    found = await client.status()
    names = [each["name"] for each in found["fileStatus"]]
    assert names == sorted(names)
    assert {each["name"]: each["extra"] for each in found["fileStatus"] if each["extra"]} == {"new name": "old name"}
    # What the user prefers to see on a terminal changes nothing.
    for key, value in (
        *(("status.showUntrackedFiles", "no"), ("status.renames", "false"), ("status.aheadBehind", "false")),
        *(("status.short", "true"), ("status.showStash", "true"), ("status.relativePaths", "true")),
        *(("color.ui", "always"), ("core.quotePath", "true")),
    ):
        await client.ok("POST", "config", key=key, value=value)
    assert await client.status() == found
    assert await client.status("repo/deep/er") == found


async def test_conflicts(client: Client, repo: Path) -> None:
    for name in ("changed", "mine", "theirs"):
        commit(repo, name)
    git(repo, "checkout", "--quiet", "-b", "other")
    commit(repo, "changed", "theirs\n")
    commit(repo, "new", "theirs\n")
    git(repo, "rm", "--quiet", "mine")
    git(repo, "commit", "--quiet", "-m", "x")
    commit(repo, "theirs", "theirs\n")
    git(repo, "checkout", "--quiet", "main")
    commit(repo, "changed", "ours\n")
    commit(repo, "new", "ours\n")
    commit(repo, "mine", "ours\n")
    git(repo, "rm", "--quiet", "theirs")
    git(repo, "commit", "--quiet", "-m", "x")
    git(repo, "merge", "other", check=False)
    conflicted = (CONFLICT, CONFLICT)
    assert await client.files() == dict.fromkeys(("changed", "mine", "new", "theirs"), conflicted)
    author = {"author": "a", "email": "e"}
    await client.refused(409, "GIT_MERGE_CONFLICT", "POST", "commit", path="repo", message="x", **author)
    await client.refused(409, "GIT_MERGE_CONFLICT", "POST", "checkout", path="repo", branch="other")
    for name in ("changed", "mine", "new", "theirs"):
        (repo / name).write_text("both\n")
    await client.ok("POST", "add", path="repo", files=["."])
    hash_ = (await client.ok("POST", "commit", path="repo", message="merged", **author))["hash"]
    assert len(git(repo, "rev-list", "--parents", "-1", hash_).split()) == 3
    assert await client.files() == {}


async def test_unborn(client: Client) -> None:
    await client.ok("POST", "init", path="repo", initial_branch="trunk")
    (client.work / "repo/file").write_text("x")
    await client.ok("POST", "add", path="repo", files=["file"])
    found = await client.status()
    assert found == {
        "currentBranch": "trunk",
        "fileStatus": [{"name": "file", "extra": "", "staging": "Added", "worktree": UNMODIFIED}],
        "branchPublished": False,
        "ahead": 0,
        "behind": 0,
        "upstream": "",
        "detached": False,
    }
    assert await client.ok("GET", "branches", path="repo") == {"branches": [], "current": "trunk"}
    assert await client.ok("GET", "history", path="repo") == []


async def test_detached(client: Client, repo: Path) -> None:
    git(repo, "checkout", "--quiet", "--detach")
    found = await client.status()
    assert (found["currentBranch"], found["detached"], found["upstream"]) == ("HEAD", True, "")
    assert await client.ok("GET", "branches", path="repo") == {"branches": ["main"], "current": ""}


async def test_ahead_and_behind(client: Client, server: GitServer, remotes: Path) -> None:
    await client.ok("POST", "clone", url=server.url("open.git"), path="repo")
    repo = client.work / "repo"
    for number in range(2):
        commit(repo, f"ours {number}")
    commit(remotes / "seed", "theirs")
    git(remotes / "seed", "push", "--quiet", str(remotes / "open.git"), "main")
    git(repo, "fetch", "--quiet")
    found = await client.status()
    assert (found["branchPublished"], found["ahead"], found["behind"]) == (True, 2, 1)
    git(repo, "checkout", "--quiet", "-b", "new")
    found = await client.status()
    assert (found["branchPublished"], found["upstream"], found["ahead"]) == (False, "", 0)
    # An upstream that is configured, and was never there.
    git(repo, "config", "branch.new.remote", "origin")
    git(repo, "config", "branch.new.merge", "refs/heads/new")
    found = await client.status()
    assert (found["branchPublished"], found["upstream"]) == (False, "origin/new")


async def test_worktree_submodule_and_sparse(client: Client, repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "--quiet", "-b", "beside", "../beside")
    (client.work / "beside/new").write_text("x")
    found = await client.status("beside")
    assert (found["currentBranch"], len(found["fileStatus"])) == ("beside", 1)
    assert await client.ok("GET", "branches", path="beside") == {"branches": ["beside", "main"], "current": "beside"}
    await client.refused(409, "CONFLICT", "DELETE", "branches", path="repo", name="beside")
    library = make(tmp_path / "library")
    git(repo, "submodule", "--quiet", "add", str(library), "lib")
    git(repo, "commit", "--quiet", "-m", "with a library")
    assert await client.files() == {}
    commit(repo / "lib", "more")
    assert await client.files() == {"lib": (UNMODIFIED, "Modified")}
    assert (await client.status("repo/lib"))["ahead"] == 1
    commit(repo, "kept/a")
    commit(repo, "left/b")
    git(repo, "sparse-checkout", "set", "kept")
    assert not (repo / "left").exists()
    assert await client.files() == {"lib": (UNMODIFIED, "Modified")}


async def test_unusual_names(client: Client, repo: Path) -> None:
    names = ["with space", "--option", "new\nline", "tab\t", 'quo"te\\', "*", "ünï", "a\udcffb", "-", "\N{BOM}"]
    for name in names:
        (repo / name).write_text("x")
    shown = [name.replace("\udcff", "\ufffdxff") for name in names]
    assert await client.files() == dict.fromkeys(shown, ("Untracked", "Untracked"))
    for name in shown[:-1]:
        await client.ok("POST", "add", path="repo", files=[name])
    assert [name for name, states in (await client.files()).items() if states[0] == "Untracked"] == [shown[-1]]
    await client.ok("POST", "add", path="repo", files=shown)
    await client.ok("POST", "commit", path="repo", message="m", author="a", email="e")
    assert await client.files() == {}
    git(repo, "mv", "a\udcffb", "\udcfe")
    [found] = (await client.status())["fileStatus"]
    assert (found["name"], found["extra"], found["staging"]) == ("\ufffdxfe", "a\ufffdxffb", "Renamed")


async def test_many_files(client: Client, repo: Path) -> None:
    for number in range(5000):
        (repo / f"a name that is a little longer {number:05}").touch()
    found = (await client.status())["fileStatus"]
    assert len(found) == 5000


async def test_where_no_repository_is(client: Client, repo: Path, remotes: Path) -> None:
    (client.work / "plain").mkdir()
    (client.work / "odd/.git").mkdir(parents=True)
    (client.work / "dangling").mkdir()
    (client.work / "dangling/.git").write_text("gitdir: ../nowhere\n")
    for path in ("plain", "missing", ".", "odd", "dangling", "/"):
        for operation in ("status", "history", "branches", "remotes"):
            await client.refused(404, "GIT_REPO_NOT_FOUND", "GET", operation, path=path)
    await client.refused(400, "INVALID_FILE_PATH", "GET", "status", path="repo/file")
    await client.refused(400, "INVALID_FILE_PATH", "GET", "status", path="nul\0")
    for operation in ("status", "history", "branches", "remotes"):
        await client.refused(400, "BAD_REQUEST", "GET", operation)
        await client.refused(400, "BAD_REQUEST", "GET", operation, path="")
    bare = str(remotes / "open.git")
    assert "work tree" in await client.refused(400, "BAD_REQUEST", "GET", "status", path=bare)
    assert await client.ok("GET", "branches", path=bare) == {"branches": ["feature", "main"], "current": "main"}
    assert len(await client.ok("GET", "history", path=bare)) == 2
    assert (await client.ok("GET", "remotes", path=bare))["remotes"][0]["name"] == "origin"


async def test_a_repository_above_the_work_dir_is_not_meant(client: Client, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (client.work / "plain").mkdir()
    await client.refused(404, "GIT_REPO_NOT_FOUND", "GET", "status", path="plain")
    assert (await client.status(str(tmp_path)))["currentBranch"] == "main"


async def test_what_is_broken(client: Client, repo: Path) -> None:
    index = (repo / ".git/index").read_bytes()
    for content in (b"DIRC", b"nonsense" * 20):
        (repo / ".git/index").write_bytes(content)
        await client.refused(409, "CONFLICT", "GET", "status", path="repo")
    (repo / ".git/index").write_bytes(index)
    (repo / ".git/index.lock").touch()
    (repo / "file").write_text("changed")
    assert await client.files() == {"file": (UNMODIFIED, "Modified")}
    for operation, fields in (
        ("add", {"files": ["file"]}),
        ("reset", {}),
        ("commit", {"message": "m", "author": "a", "email": "e"}),
    ):
        message = await client.refused(409, "CONFLICT", "POST", operation, path="repo", **fields)
        assert "index.lock" in message
    (repo / ".git/index.lock").unlink()
    await client.ok("POST", "add", path="repo", files=["file"])
    (repo / ".git/HEAD").write_text("nonsense")
    assert (await client.call("GET", "status", path="repo"))[0] in (404, 409)


@pytest.mark.skipif(os.getuid() != 0, reason="not possible here: files of another user need root")
async def test_a_repository_of_somebody_else(client: Client, repo: Path) -> None:
    for each in (repo, repo / ".git"):
        os.chown(each, 65534, 65534)
    assert await client.files() == {}


def test_porcelain_without_a_repository() -> None:
    zeros = "0" * 40
    output = (
        "# branch.oid abc\0# branch.head a b\0# branch.upstream origin/a b\0# branch.ab +12 -3\0# stash 4\0"
        f"1 .M N... 100644 100644 100644 {zeros} {zeros} z \0"
        f"2 CM S.M. 100644 100644 100644 {zeros} {zeros} C75 new 1\0old 2\0"
        f"u UD N... 100644 100644 000000 100644 {zeros} {zeros} {zeros} u n\0"
        "? un\ntracked\0! ignored\0"
    )
    found = status.parse(output.encode())
    assert (found.current_branch, found.upstream, found.ahead, found.behind) == ("a b", "origin/a b", 12, 3)
    assert found.branch_published
    assert found.file_status == [
        FileStatus(name="new 1", extra="old 2", staging="Copied", worktree="Modified"),
        FileStatus(name="u n", extra="", staging="Updated but unmerged", worktree="Updated but unmerged"),
        FileStatus(name="un\ntracked", extra="", staging="Untracked", worktree="Untracked"),
        FileStatus(name="z ", extra="", staging="Unmodified", worktree="Modified"),
    ]
