"""What a repository has to do with others: pull, push, remotes."""

import re

from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError
from toolbox.git.credentials import Login, source, strip
from toolbox.git.errors import PushRejected, RemoteRejected, failure
from toolbox.git.models import PullRequest, PushRequest, Remote, RemoteRequest
from toolbox.git.native import Native, Output
from toolbox.git.repository import Heads, Repository

DEFAULT = "origin"
_REMOTE_URL = re.compile(r"remote\.(.+)\.url", re.DOTALL)
_NO_NAME = re.compile(r"[\0-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[-/.]|[/.]$|^@$|^HEAD$")
"""What the name of a branch or remote cannot have in it, from git-check-ref-format(1)."""
_NO_SUCH_REMOTE = 2


def check_branch(name: str) -> str:
    """Return `name`. Raises `BadRequest` if no branch can be called so."""
    if not name or _NO_NAME.search(name):
        raise BadRequest(f"not a valid branch name: {name!r}")
    return name


async def pull(native: Native, repository: Repository, heads: Heads, request: PullRequest) -> None:
    """Bring the current branch to the state of a remote one, as long as that is straight ahead."""
    remote, branch = request.remote, request.branch and check_branch(request.branch)
    if not branch:
        _require_branch(heads)
    if not (remote and branch) and heads.current:
        # The upstream counts as far as it does not contradict what is asked for.
        upstream, merge = await _upstream(native, repository, heads.current)
        if not branch and upstream and remote in ("", upstream):
            remote, branch = upstream, merge
    remote, branch = remote or DEFAULT, branch or heads.current
    login = await _login(native, repository, remote, request)
    options = ("--ff-only", "--no-rebase", "--progress", "--no-recurse-submodules")
    args = ("pull", *options, "--", remote, f"refs/heads/{branch}")
    await native.run(*args, cwd=repository.directory, login=login, progress="pull")


async def push(native: Native, repository: Repository, heads: Heads, request: PushRequest) -> None:
    """Bring a remote's branch to the state of ours. Raises `PushRejected`, `RemoteRejected`."""
    branch = check_branch(request.branch) if request.branch else _require_branch(heads)
    remote = request.remote or DEFAULT
    login = await _login(native, repository, remote, request, "--push")
    options = ["--porcelain", "--progress", *(["--set-upstream"] if request.set_upstream else [])]
    args = ("push", *options, "--", remote, f"refs/heads/{branch}:refs/heads/{branch}")
    output = await native.run(*args, cwd=repository.directory, login=login, progress="push", accept=range(256))
    if output.code != 0:
        raise _not_pushed(output)


def _not_pushed(output: Output) -> ToolboxError:
    """Return what `push --porcelain` says: a line `! TAB from:to TAB [kind] (reason)` for a reference it could not."""
    for line in output.out.decode("utf-8", "replace").splitlines():
        flag, _, rest = line.partition("\t")
        if flag == "!":
            refs, _, summary = rest.partition("\t")
            said = [line[8:] for line in re.split("[\r\n]+", output.errors) if line.startswith("remote: ")]
            words = "\n".join([f"{refs.partition(':')[2]} {summary}", *(line for line in said if line.strip())])
            return RemoteRejected(words) if summary.startswith("[remote ") else PushRejected(f"conflict: {words}")
    return failure(output.errors, code=output.code)


async def _upstream(native: Native, repository: Repository, branch: str) -> tuple[str, str]:
    """Return the remote and the branch there that a branch follows; empty for none."""
    form = "--format=%(upstream:remotename)%00%(upstream:remoteref)"
    output = await native.run("for-each-ref", form, "--", f"refs/heads/{branch}", cwd=repository.directory)
    remote, _, name = output.out.decode().strip("\n").partition("\0")
    return (remote, name.removeprefix("refs/heads/")) if remote not in ("", ".") else ("", "")


async def _login(
    native: Native, repository: Repository, remote: str, request: PullRequest, *which: str
) -> Login | None:
    """Return the login for a remote, if one is given. Raises `NotFound` for no such remote."""
    if remote.startswith("-"):
        raise BadRequest(f"not a valid remote name: {remote!r}")
    args = ("remote", "get-url", *which, "--", remote)
    output = await native.run(*args, cwd=repository.directory, accept=(0, _NO_SUCH_REMOTE))
    if output.code != 0:
        raise NotFound(f"not found: no such remote: {remote}")
    if not (request.username and request.password):
        return None
    url = output.out.decode("utf-8", "surrogateescape").splitlines()[0]
    return source(url, request.username, request.password).login


def _require_branch(heads: Heads) -> str:
    if not heads.current:
        raise BadRequest("HEAD is detached: name the branch")
    return heads.current


async def remotes(native: Native, repository: Repository) -> list[Remote]:
    """Return the remotes, sorted by name."""
    # Exit code 1: none.
    args = ("config", "-z", "--get-regexp", r"^remote\..*\.url$")
    output = await native.run(*args, cwd=repository.directory, accept=(0, 1))
    found: dict[str, str] = {}
    for record in output.out.decode("utf-8", "replace").split("\0"):
        key, _, url = record.partition("\n")
        if match := _REMOTE_URL.fullmatch(key):
            found.setdefault(match[1], strip(url))
    return [Remote(name=name, url=url) for name, url in sorted(found.items())]


async def add(native: Native, repository: Repository, request: RemoteRequest) -> None:
    """Add a remote, or give the one that is there another URL. A new one that cannot be fetched is not kept."""
    if _NO_NAME.search(request.name):
        raise BadRequest(f"not a valid remote name: {request.name!r}")
    there = source(request.url)
    cwd = repository.directory
    exists = any(remote.name == request.name for remote in await remotes(native, repository))
    if exists and not request.overwrite:
        raise Conflict(f"conflict: remote {request.name} already exists")
    if exists:
        await native.run("config", "--replace-all", "--", f"remote.{request.name}.url", there.url, cwd=cwd)
        # Of the old place; exit code 5: there is none.
        await native.run("config", "--unset-all", "--", f"remote.{request.name}.pushurl", cwd=cwd, accept=(0, 5))
    else:
        await native.run("remote", "add", "--", request.name, there.url, cwd=cwd)
    if request.fetch:
        try:
            args = ("fetch", "--progress", "--no-recurse-submodules", "--", request.name)
            await native.run(*args, cwd=cwd, login=there.login, progress="fetch")
        except BaseException:
            if not exists:
                await native.run("remote", "remove", "--", request.name, cwd=cwd, accept=range(256))
            raise
