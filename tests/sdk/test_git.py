"""The repositories of the published Python SDKs, sync and async, against real remotes."""

from typing import Any

import pytest
from daytona import (
    AsyncDaytona,  # noqa: F401 -- imported first: the package loads its parts lazily
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaForbiddenError,
    DaytonaGitAuthFailedError,
    DaytonaGitBranchExistsError,
    DaytonaGitBranchNotFoundError,
    DaytonaGitDirtyWorktreeError,
    DaytonaGitMergeConflictError,
    DaytonaGitPushRejectedError,
    DaytonaGitRemoteRejectedError,
    DaytonaGitRepoNotFoundError,
    DaytonaGitTransportFailedError,
    DaytonaNotFoundError,
)

from tests.git.conftest import commit, git
from tests.git.http_server import PASSWORD, USERNAME, GitServer
from tests.sdk.clients import Sdk, scenario

LOGIN = {"username": USERNAME, "password": PASSWORD}
AUTHOR = {"author": "An Author", "email": "an@author.example"}


@scenario
async def test_from_clone_to_push(sdk: Sdk, box: Any, folder: str, git_server: GitServer, git_remote: str) -> None:
    path = f"{folder}/repo"
    await box.git.clone(git_server.url(git_remote), path, branch="feature", **LOGIN)
    await box.git.checkout_branch(path, "main")
    status = await box.git.status(path)
    assert (status.current_branch, status.file_status) == ("main", [])
    assert (status.branch_published, status.upstream, status.detached) == (True, "origin/main", False)
    await box.fs.upload_file(b"new", f"{path}/new file")
    [found] = (await box.git.status(path)).file_status
    assert (found.name, found.staging, found.worktree) == ("new file", "Untracked", "Untracked")
    await box.git.add(path, ["new file"])
    [found] = (await box.git.status(path)).file_status
    assert (found.staging, found.worktree) == ("Added", "Unmodified")
    sha = (await box.git.commit(path, "a message", **AUTHOR)).sha
    status = await box.git.status(path)
    assert (status.ahead, status.behind, status.file_status) == (1, 0, [])
    with pytest.raises(DaytonaGitAuthFailedError):
        await box.git.push(path)
    await box.git.push(path, **LOGIN, request_timeout=60)
    bare = git_server.root / git_remote
    assert git(bare, "rev-parse", "main") == sha
    assert git(bare, "log", "-1", "--format=%an <%ae>", "main") == "An Author <an@author.example>"
    await box.git.create_branch(path, "topic")
    await box.git.push(path, **LOGIN, branch="topic", remote="origin", set_upstream=True)
    assert (await box.git.status(path)).upstream == "origin/topic"
    branches = await box.git.branches(path)
    assert (branches.branches, branches.current) == (["feature", "main", "topic"], "topic")
    other = f"{folder}/other"
    await box.git.clone(git_server.url(git_remote), other, **LOGIN, depth=1)
    await box.git.commit(path, "more", **AUTHOR, allow_empty=True)
    await box.git.checkout_branch(path, "main")
    await box.git.commit(path, "more", **AUTHOR, allow_empty=True)
    await box.git.push(path, **LOGIN)
    await box.git.pull(other, **LOGIN)
    assert (await box.git.status(other)).behind == 0
    await box.git.pull(other, **LOGIN, branch="main", remote="origin")
    await box.git.delete_branch(path, "topic")
    assert (await box.git.branches(path)).branches == ["feature", "main"]


@scenario
async def test_clone_of_a_commit(sdk: Sdk, box: Any, folder: str, git_server: GitServer) -> None:
    commit_id = git(git_server.root / "open.git", "rev-parse", "feature")
    await box.git.clone(git_server.url("open.git"), f"{folder}/repo", commit_id=commit_id, insecure_skip_tls=True)
    status = await box.git.status(f"{folder}/repo")
    assert (status.detached, status.current_branch) == (True, "HEAD")
    assert (await box.git.branches(f"{folder}/repo")).current == ""


@scenario
async def test_own_repository(sdk: Sdk, box: Any, folder: str, git_server: GitServer) -> None:
    path = f"{folder}/repo"
    await box.git.init(path, initial_branch="trunk")
    status = await box.git.status(path)
    assert (status.current_branch, status.file_status, status.branch_published) == ("trunk", [], False)
    branches = await box.git.branches(path)
    assert (branches.branches, branches.current) == ([], "trunk")
    for content in (b"one", b"two"):
        await box.fs.upload_file(content, f"{path}/file")
        await box.git.add(path, ["."])
        await box.git.commit(path, content.decode(), **AUTHOR)
    await box.git.reset(path, mode="soft", target="HEAD~1")
    [found] = (await box.git.status(path)).file_status
    assert (found.staging, found.worktree) == ("Modified", "Unmodified")
    await box.git.reset(path)
    await box.git.restore(path, ["file"])
    assert await box.fs.download_file(f"{path}/file") == b"one"
    await box.fs.upload_file(b"three", f"{path}/file")
    await box.git.add(path, ["file"])
    await box.git.restore(path, ["file"], staged=True)
    [found] = (await box.git.status(path)).file_status
    assert (found.staging, found.worktree) == ("Unmodified", "Modified")
    await box.git.add(path, ["file"])
    await box.git.reset(path, files=["file"])
    await box.git.restore(path, ["file"], staged=True, worktree=True, source="HEAD")
    assert (await box.git.status(path)).file_status == []
    await box.git.remote_add(path, "origin", git_server.url("open.git", userinfo="user:hunter22@"), fetch=True)
    assert await box.git.remote_get(path, "origin") == git_server.url("open.git")
    assert await box.git.remote_get(path, "other") is None
    with pytest.raises(DaytonaConflictError):
        await box.git.remote_add(path, "origin", "elsewhere")
    await box.git.remote_add(path, "origin", "elsewhere", overwrite=True)
    assert [(each.name, each.url) for each in (await box.git.remotes(path)).remotes] == [("origin", "elsewhere")]
    await box.git.init(f"{folder}/bare.git", bare=True)
    assert (await box.git.remotes(f"{folder}/bare.git")).remotes == []


@scenario
async def test_configuration(sdk: Sdk, box: Any, folder: str, git_server: GitServer, git_remote: str) -> None:
    assert await box.git.get_config("test.unset") is None
    await box.git.set_config("test.key", "a value")
    assert await box.git.get_config("test.key") == "a value"
    await box.git.configure_user("A Name", "a@name.example")
    assert await box.git.get_config("user.email") == "a@name.example"
    await box.git.init(folder)
    await box.git.configure_user("Here", "here@name.example", scope="local", path=folder)
    assert await box.git.get_config("user.name", scope="local", path=folder) == "Here"
    await box.git.set_config("core.autocrlf", "false", scope="local", path=folder)
    assert (await box.process.exec("git config user.name; git -C / config user.name", cwd=folder)).result == (
        "Here\nA Name\n"
    )
    with pytest.raises(DaytonaBadRequestError):
        await box.git.set_config("test.key", "x", scope="local")
    host = git_server.url("").split("/")[2]
    await box.git.dangerously_authenticate(**LOGIN, host=host, protocol="http")
    await box.git.clone(git_server.url(git_remote), f"{folder}/repo")
    await box.process.exec("rm ~/.git-credentials")


@scenario
async def test_typed_errors(sdk: Sdk, box: Any, folder: str, git_server: GitServer, git_remote: str) -> None:
    url, path = git_server.url("open.git"), f"{folder}/repo"
    for kind, where, options in (
        (DaytonaGitAuthFailedError, git_server.url(git_remote), {}),
        (DaytonaGitAuthFailedError, git_server.url(git_remote), {"username": "user", "password": "wrong"}),
        (DaytonaGitBranchNotFoundError, url, {"branch": "nope"}),
        (DaytonaGitRepoNotFoundError, git_server.url("nope.git"), {}),
        (DaytonaGitTransportFailedError, "http://127.0.0.1:9/x.git", {}),
        (DaytonaGitTransportFailedError, "https://no.such.host.invalid/x.git", {}),
        (DaytonaForbiddenError, git_server.url("forbidden/x.git"), {}),
        (DaytonaNotFoundError, git_server.url("empty.git"), {}),
    ):
        with pytest.raises(kind):
            await box.git.clone(where, path, **options)
    with pytest.raises(DaytonaGitRepoNotFoundError):
        await box.git.status(path)
    remote = git_server.root / git_remote
    await box.git.clone(str(remote), path)
    with pytest.raises(DaytonaConflictError):
        await box.git.clone(url, path)
    with pytest.raises(DaytonaConflictError, match="nothing to commit"):
        await box.git.commit(path, "m", **AUTHOR)
    with pytest.raises(DaytonaGitBranchExistsError):
        await box.git.create_branch(path, "main")
    with pytest.raises(DaytonaBadRequestError):
        await box.git.create_branch(path, "bad..name")
    for call in (box.git.checkout_branch, box.git.delete_branch):
        with pytest.raises(DaytonaGitBranchNotFoundError):
            await call(path, "nope")
    with pytest.raises(DaytonaConflictError, match="checked out"):
        await box.git.delete_branch(path, "main")
    with pytest.raises(DaytonaBadRequestError, match="pathspec"):
        await box.git.add(path, ["nope"])
    git(git_server.root, "clone", "--quiet", str(remote), f"{git_remote}.clone")
    theirs = git_server.root / f"{git_remote}.clone"
    commit(theirs, "file", "theirs\n")
    git(theirs, "push", "--quiet")
    await box.fs.upload_file(b"mine", f"{path}/file")
    with pytest.raises(DaytonaGitDirtyWorktreeError):
        await box.git.pull(path)
    await box.git.add(path, ["file"])
    await box.git.commit(path, "mine", **AUTHOR)
    with pytest.raises(DaytonaGitMergeConflictError):
        await box.git.pull(path)
    with pytest.raises(DaytonaGitPushRejectedError):
        await box.git.push(path)
    hook = remote / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    await box.git.reset(path, mode="hard", target="origin/main")
    await box.git.commit(path, "mine", **AUTHOR, allow_empty=True)
    with pytest.raises(DaytonaGitRemoteRejectedError, match="not today"):
        await box.git.push(path)
