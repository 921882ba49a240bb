"""kill -9 of git, and of what git has started, in the middle of what it does."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Remote, Start
from tests.git.conftest import git, make
from tests.git.http_server import GitServer, serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """Serve the repository `it.git`."""
    make(tmp_path / "remotes/seed")
    git(tmp_path / "remotes", "clone", "--quiet", "--bare", "seed", "it.git")
    with serve(tmp_path / "remotes") as running:
        yield running


def gits(daemon: Remote) -> list[tuple[str, ...]]:
    """Return the command lines of what git has running below the daemon, itself included."""
    return [words for words in daemon.commands().values() if words[0].startswith("git") or "100" in words]


@pytest.mark.parametrize(
    ("words", "failure"),
    [(("git", "clone"), (500, "GIT_KILLED")), (("git-remote-http",), (502, "GIT_TRANSPORT_FAILED"))],
    ids=["git", "transport"],
)
async def test_a_clone_killed_in_the_middle(
    remote: Start, server: GitServer, words: tuple[str, ...], failure: tuple[int, str]
) -> None:
    daemon = await remote()
    body = {"url": server.url("stalled-pack/it.git"), "path": "a/repo"}
    cloning = asyncio.ensure_future(daemon.call("POST", "/git/clone", body))
    assert await asyncio.to_thread(server.stalled.wait, 60)
    os.kill(await daemon.pid_of(*words), signal.SIGKILL)
    status, answer = await cloning
    assert (status, answer["code"]) == failure, answer
    assert os.listdir(daemon.home / "work") == []
    assert gits(daemon) == []
    assert (await daemon.call("POST", "/git/clone", {**body, "url": server.url("it.git")}))[0] == 200
    assert (daemon.home / "work/a/repo/file").read_text() == "content\n"


@pytest.mark.parametrize("words", [("git", "add"), ("sleep", "100")], ids=["git", "filter"])
async def test_a_change_killed_in_the_middle(remote: Start, tmp_path: Path, words: tuple[str, ...]) -> None:
    daemon = await remote()
    repo = make(tmp_path / "work/repo")
    git(repo, "config", "filter.slow.clean", "sleep 100 && cat")
    git(repo, "config", "filter.slow.required", "true")
    (repo / ".gitattributes").write_text("slow filter=slow\n")
    (repo / "slow").write_text("slow\n")
    body = {"path": "repo", "files": ["slow"]}
    adding = asyncio.ensure_future(daemon.call("POST", "/git/add", body))
    await daemon.pid_of("sleep", "100")
    assert (repo / ".git/index.lock").exists()
    os.kill(await daemon.pid_of(*words), signal.SIGKILL)
    status, answer = await adding
    assert status == 500
    assert answer["code"] == "GIT_KILLED" if words[0] == "git" else "filter 'slow' failed" in answer["message"], answer
    assert gits(daemon) == []
    git(repo, "config", "filter.slow.clean", "cat")
    assert (await daemon.call("POST", "/git/add", body))[0] == 200
    assert git(repo, "diff", "--cached", "--name-only") == "slow"


async def test_locks_of_others_stay(remote: Start, tmp_path: Path) -> None:
    daemon = await remote()
    repo = make(tmp_path / "work/repo")
    git(repo, "config", "filter.slow.clean", "sleep 100 && cat")
    (repo / ".gitattributes").write_text("slow filter=slow\n")
    (repo / "slow").write_text("slow\n")
    (repo / ".git/config.lock").touch()
    for anothers in (False, True):
        adding = asyncio.ensure_future(daemon.call("POST", "/git/add", {"path": "repo", "files": ["slow"]}))
        add = await daemon.pid_of("git", "add")
        await daemon.pid_of("sleep", "100")
        if anothers:
            await daemon.call("POST", "/process/session", {"sessionId": "user"})
            await daemon.session("user", "cd repo; git hash-object --stdin", runAsync=True)
            await daemon.pid_of("git", "hash-object")
        os.kill(add, signal.SIGKILL)
        assert (await adding)[1]["code"] == "GIT_KILLED"
        locks = sorted(path.name for path in (repo / ".git").glob("*.lock"))
        assert locks == (["config.lock", "index.lock"] if anothers else ["config.lock"])
