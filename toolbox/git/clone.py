"""Copies a repository from elsewhere: all of it, or nothing."""

import logging
import os
import re
import shutil
from contextlib import suppress

from toolbox.errors import BadRequest, Conflict, InvalidPath, NotFound
from toolbox.git import repository
from toolbox.git.credentials import Source
from toolbox.git.native import Native
from toolbox.paths import lossy
from toolbox.threads import Threads

log = logging.getLogger(__name__)
_COMMIT = re.compile(r"[0-9a-fA-F]{4,64}")
_FULL_LENGTHS = (40, 64)


async def clone(
    native: Native,
    threads: Threads,
    source: Source,
    target: str,
    *,
    work_dir: str,
    branch: str,
    commit: str,
    depth: int,
    verify_tls: bool,
) -> None:
    """Clone into a directory that is empty or not there; whatever goes wrong, it is so again afterwards.

    `commit` is checked out, detached. Raises `Conflict` for a directory with something in it, `NotFound` for a commit
    that is not there or a remote without any, and what `Native.run` raises.
    """
    if commit and not _COMMIT.fullmatch(commit):
        raise BadRequest(f"not a commit id: {lossy(commit)}")
    env = {} if verify_tls else {"GIT_SSL_NO_VERIFY": "1"}
    shallow = [f"--depth={depth}"] if depth else []
    url = source.url
    if depth and os.path.isabs(url):
        url = f"file://{url}"  # of a plain path git ignores the depth
    options = [*shallow, *(["--no-checkout"] if commit else []), *([f"--branch={branch}"] if branch else [])]
    created: list[str] = []
    try:
        await threads.run(_prepare, target, created)
    except BaseException:
        await threads.run(_remove, created)
        raise
    try:
        await native.run(
            *("clone", "--progress", "--origin=origin", "--no-recurse-submodules", *options, "--", url, target),
            cwd=work_dir,
            login=source.login,
            env=env,
            progress="clone",
        )
        await threads.run(_require_content, target)
        if commit:
            await _check_out(native, source, target, commit, shallow, env)
    except BaseException:
        await threads.run(_undo, target, created)
        raise


async def _check_out(
    native: Native, source: Source, target: str, commit: str, shallow: list[str], env: dict[str, str]
) -> None:
    known = await native.run("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", cwd=target, accept=(0, 1))
    if known.code != 0:
        if len(commit) not in _FULL_LENGTHS:
            raise NotFound(f"not found: commit {commit}")
        fetch = ("fetch", "--progress", *shallow, "--", "origin", commit)
        await native.run(*fetch, cwd=target, login=source.login, env=env, progress="clone")
    checkout = ("checkout", "--progress", "--detach", commit, "--")
    await native.run(*checkout, cwd=target, login=source.login, env=env, progress="clone")


def _prepare(target: str, created: list[str]) -> None:
    """Make the directory; `created` gets what had to be made, deepest first. Raises `Conflict`."""
    missing = []
    path = target
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for each in reversed(missing):
        os.mkdir(each)
        created.insert(0, each)
    if not os.path.isdir(target):
        raise InvalidPath(f"not a directory: {lossy(target)}")
    if os.path.lexists(f"{target}/.git"):
        raise Conflict(f"conflict: repository already exists: {lossy(target)}")
    if os.listdir(target):
        raise Conflict(f"conflict: destination is not empty: {lossy(target)}")


def _require_content(target: str) -> None:
    if repository.is_empty(repository.find(target, os.path.dirname(target))):
        raise NotFound("not found: remote repository is empty")


def _undo(target: str, created: list[str]) -> None:
    """Remove what was cloned, as git itself does if it still can, and the directories that were made for it."""
    with suppress(OSError):
        for name in os.listdir(target):
            path = f"{target}/{name}"
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
    _remove(created)


def _remove(created: list[str]) -> None:
    for path in created:
        try:
            os.rmdir(path)
        except FileNotFoundError:  # git removes the one it cloned into
            continue
        except OSError as error:  # somebody else's files are in it by now
            fields = {"path": lossy(path), "reason": error.strerror}
            log.warning("a failed clone left a directory", extra={"fields": fields})
            return
