"""The repositories of the sandbox, by the paths that clients use."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self
from weakref import WeakValueDictionary

from toolbox import paths
from toolbox.errors import BadRequest, Conflict
from toolbox.git import clone, history, locks, remotes, repository, settings, status
from toolbox.git.credentials import https_unless_local, source
from toolbox.git.errors import Killed
from toolbox.git.models import (
    Branches,
    CloneRequest,
    Commit,
    CommitRequest,
    CredentialsRequest,
    InitRequest,
    PullRequest,
    PushRequest,
    Remote,
    RemoteRequest,
    ResetRequest,
    RestoreRequest,
    Status,
)
from toolbox.git.native import Native
from toolbox.git.repository import Heads, Repository
from toolbox.threads import Threads

_DIFFERS = 1
_LAST_WORDS_SECONDS = 2.0
_PATHS_FROM_INPUT = ("--pathspec-from-file=-", "--pathspec-file-nul")


class Git:
    """Everything that can be done to repositories. What changes one waits for what changes it already.

    Methods raise what `Native.run` does, `RepositoryNotFound`, `InvalidPath` and `OSError` beside what they name.
    `resolve` makes the absolute path of a client's path.
    """

    def __init__(self, native: Native, threads: Threads, resolve: Callable[[str], str], work_dir: str) -> None:
        self._native = native
        self._threads = threads
        self._resolve = resolve
        self._work_dir = work_dir
        self._ceiling = os.path.dirname(work_dir)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._changes: set[asyncio.Task[object] | None] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Their processes have been ended; what is half done must still be undone.
        if self._changes:
            await asyncio.wait([task for task in self._changes if task is not None], timeout=_LAST_WORDS_SECONDS)

    # Finding, and queueing

    async def _find(self, path: str) -> Repository:
        return await self._threads.run(repository.find, self._resolve(path), self._ceiling)

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Let one caller after the other change what `key` stands for."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        task = asyncio.current_task()
        async with lock:
            self._changes.add(task)
            try:
                yield
            finally:
                self._changes.discard(task)

    @asynccontextmanager
    async def _changing(self, path: str) -> AsyncIterator[Repository]:
        """Give the repository to one caller after the other."""
        found = await self._find(path)
        async with self._alone(found.common_dir):
            before = await self._threads.run(locks.held, found)
            try:
                yield found
            except Killed:
                await self._threads.run(locks.remove_left, found, before, self._ceiling)
                raise

    async def _heads(self, found: Repository) -> Heads:
        heads = await self._threads.run(repository.heads, found)
        if heads is not None:
            return heads
        names = await self._native.run(
            "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", cwd=found.directory
        )
        head = await self._native.run("symbolic-ref", "-q", "HEAD", cwd=found.directory, accept=(0, 1))
        current = head.out.decode("utf-8", "replace").strip().removeprefix("refs/heads/")
        return Heads(names.out.decode("utf-8", "replace").splitlines(), current)

    # Making repositories

    async def clone(self, request: CloneRequest) -> None:
        """Copy a remote repository; see `clone.clone`."""
        target = await self._threads.run(os.path.realpath, self._resolve(request.path))
        url = await self._threads.run(https_unless_local, request.url, self._work_dir)
        async with self._alone(f"{target}/.git"):
            await clone.clone(
                self._native,
                self._threads,
                source(url, request.username, request.password),
                target,
                work_dir=self._work_dir,
                branch=request.branch,
                commit=request.commit_id,
                depth=request.depth,
                verify_tls=not request.insecure_skip_tls,
            )

    async def init(self, request: InitRequest) -> None:
        """Create a repository and the directories above it; what is one already stays as it is."""
        target = await self._threads.run(os.path.realpath, self._resolve(request.path))
        options = [
            *(["--bare"] if request.bare else []),
            *([f"--initial-branch={remotes.check_branch(request.initial_branch)}"] if request.initial_branch else []),
        ]
        async with self._alone(target if request.bare else f"{target}/.git"):
            await self._native.run("init", "--quiet", *options, "--", target, cwd=self._work_dir)

    # Looking

    async def status(self, path: str) -> Status:
        """Return the state of a work tree."""
        found = await self._find(path)
        # Without the lock that git would take to note down what it has seen: a command in a terminal may want it.
        output = await self._native.run(*status.COMMAND, cwd=found.directory, env={"GIT_OPTIONAL_LOCKS": "0"})
        return await self._threads.run(status.parse, output.out)

    async def history(self, path: str, *, limit: int | None, offset: int) -> list[Commit]:
        """Return the commits that lead to HEAD, newest first."""
        found = await self._find(path)
        if (await self._heads(found)).unborn:
            return []
        range_ = [f"--skip={offset}", *([f"--max-count={limit}"] if limit else [])]
        output = await self._native.run(*history.COMMAND, *range_, "HEAD", "--", cwd=found.directory)
        return await self._threads.run(history.parse, output.out)

    async def branches(self, path: str) -> Branches:
        """Return the local branches."""
        heads = await self._heads(await self._find(path))
        return Branches(branches=heads.names, current=heads.current)

    # Branches

    async def create_branch(self, path: str, name: str) -> None:
        """Create a branch at HEAD and check it out. Raises `BranchExists`."""
        async with self._changing(path) as found:
            await self._native.run("checkout", "--quiet", "-b", remotes.check_branch(name), cwd=found.directory)

    async def delete_branch(self, path: str, name: str) -> None:
        """Delete a branch, merged or not. Raises `BranchNotFound`, `Conflict` for one that is checked out."""
        async with self._changing(path) as found:
            if (await self._heads(found)).current == name:  # of one without a commit git would say that it is not there
                raise Conflict(f"conflict: branch {name} is checked out")
            await self._native.run("branch", "--quiet", "-D", "--", name, cwd=found.directory)

    async def checkout(self, path: str, branch: str) -> None:
        """Check out a branch, one of a remote (which makes it ours), or a tag or commit, detached."""
        async with self._changing(path) as found:
            await self._native.run("checkout", "--quiet", _revision(branch), "--", cwd=found.directory)

    # Changes

    async def add(self, path: str, files: list[str]) -> None:
        """Stage files as they are now, deleted ones as deleted."""
        async with self._changing(path) as found:
            if files:
                await self._native.run("add", *_PATHS_FROM_INPUT, cwd=found.directory, data=_names(files))

    async def commit(self, request: CommitRequest) -> str:
        """Commit what is staged and return the commit's id. Raises `Conflict` when nothing is.

        As with the reference daemon the author is the committer and no hook of the repository runs; the hooks of
        other operations do.
        """
        env = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", request.author), ("EMAIL", request.email))
        }
        args = ["-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--cleanup=verbatim", "--file=-"]
        if request.allow_empty:
            args.append("--allow-empty")
        if not request.message.strip():
            raise BadRequest("the message is blank")
        async with self._changing(request.path) as found:
            cwd = found.directory
            output = await self._native.run(*args, cwd=cwd, data=request.message.encode(), env=env, accept=(0, 1))
            if output.code != 0:
                await self._say_why_not(found, output.out.decode("utf-8", "replace") + output.errors)
            head = await self._native.run("rev-parse", "--verify", "HEAD", cwd=cwd)
            return head.out.decode().strip()

    async def _say_why_not(self, found: Repository, said: str) -> None:
        """Raise the error of a commit that ended with 1."""
        staged = await self._native.run("diff", "--cached", "--quiet", cwd=found.directory, accept=(0, _DIFFERS))
        last = said.strip().rpartition("\n")[2]
        raise Conflict(f"conflict: {last}" if staged.code == 0 else f"not committed: {said.strip()}")

    async def reset(self, request: ResetRequest) -> None:
        """Move the branch, and with it index and work tree as `mode` says; with files, unstage those."""
        if request.files and request.mode not in ("", "mixed"):
            raise BadRequest(f"files cannot be reset with mode {request.mode}")
        mode = [] if request.files else [f"--{request.mode or 'mixed'}"]
        # HEAD is left out: it may not exist yet.
        target = [] if request.target in ("", "HEAD") else [_revision(request.target)]
        end = [*_PATHS_FROM_INPUT, *target] if request.files else [*target, "--"]
        async with self._changing(request.path) as found:
            data = _names(request.files) if request.files else None
            await self._native.run("reset", "--quiet", *mode, *end, cwd=found.directory, data=data)

    async def restore(self, request: RestoreRequest) -> None:
        """Bring files back to what is staged, or to `source`."""
        options = [
            *(["--staged"] if request.staged else []),
            *(["--worktree"] if request.worktree or not request.staged else []),
            *([f"--source={request.source}"] if request.source else []),
        ]
        async with self._changing(request.path) as found:
            args = ("restore", "--quiet", *options, *_PATHS_FROM_INPUT)
            await self._native.run(*args, cwd=found.directory, data=_names(request.files))

    # Remotes

    async def pull(self, request: PullRequest) -> None:
        """Fast-forward the current branch; see `remotes.pull`."""
        async with self._changing(request.path) as found:
            await remotes.pull(self._native, found, await self._heads(found), request)

    async def push(self, request: PushRequest) -> None:
        """Push one branch; see `remotes.push`."""
        async with self._changing(request.path) as found:
            await remotes.push(self._native, found, await self._heads(found), request)

    async def remotes(self, path: str) -> list[Remote]:
        """Return the remotes."""
        return await remotes.remotes(self._native, await self._find(path))

    async def add_remote(self, request: RemoteRequest) -> None:
        """Add a remote; see `remotes.add`."""
        async with self._changing(request.path) as found:
            await remotes.add(self._native, found, request)

    # Configuration

    @asynccontextmanager
    async def _configured(self, scope: str, path: str) -> AsyncIterator[tuple[str, str]]:
        """Give the scope to change and the directory to do that in, to one caller after the other."""
        if scope != "local":
            async with self._alone(f"configuration {scope}"):
                yield scope or "global", settings.ANYWHERE
        elif not path:
            raise BadRequest("scope local needs the path of a repository")
        else:
            async with self._changing(path) as found:
                yield scope, found.directory

    async def get_config(self, key: str, scope: str, path: str) -> str | None:
        """Return a setting, None when it is not set."""
        async with self._configured(scope, path) as (which, directory):
            return await settings.get(self._native, key, which, directory)

    async def set_config(self, values: dict[str, str], scope: str, path: str) -> None:
        """Change settings."""
        async with self._configured(scope, path) as (which, directory):
            for key, value in values.items():
                await settings.put(self._native, key, value, which, directory)

    async def keep_login(self, request: CredentialsRequest) -> None:
        """Keep a login for a host, in plain text; see `settings.keep_login`."""
        async with self._configured("global", ""):
            await settings.keep_login(
                self._native,
                protocol=request.protocol or "https",
                host=request.host or "github.com",
                username=request.username,
                password=request.password,
            )


def _revision(name: str) -> str:
    if name.startswith("-"):
        raise BadRequest(f"not a valid revision: {name!r}")
    return name


def _names(files: list[str]) -> bytes:
    """Return file names as git reads them from its input; a NUL in one is refused by `unescape`."""
    return b"".join(os.fsencode(paths.unescape(file)) + b"\0" for file in files)
