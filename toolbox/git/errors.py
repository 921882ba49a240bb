"""What git's failures mean on the wire, with its own words as the reason.

Which kind of failure it was, git says in prose only; so it is made to speak English (`LC_ALL=C`), and the texts below
are those of the releases 2.34 to 2.51. What fits none of them is an error 500 with the text.
"""

import re

from toolbox.errors import BadRequest, Conflict, Forbidden, InsufficientStorage, NotFound, ToolboxError, Unauthorized

_LONGEST = 2000


class AuthFailed(Unauthorized):
    """The remote wants a login, or another one."""

    code = "GIT_AUTH_FAILED"


class RepositoryNotFound(NotFound):
    """No repository there."""

    code = "GIT_REPO_NOT_FOUND"


class BranchNotFound(NotFound):
    """No such branch."""

    code = "GIT_BRANCH_NOT_FOUND"


class BranchExists(Conflict):
    """A branch of that name is there."""

    code = "GIT_BRANCH_EXISTS"


class PushRejected(Conflict):
    """The remote branch has commits that ours does not."""

    code = "GIT_PUSH_REJECTED"


class DirtyWorktree(Conflict):
    """Local changes would be lost."""

    code = "GIT_DIRTY_WORKTREE"


class MergeConflict(Conflict):
    """Two histories that do not go together by themselves."""

    code = "GIT_MERGE_CONFLICT"


class TransportFailed(ToolboxError):
    """The remote cannot be reached, or broke off."""

    status = 502
    code = "GIT_TRANSPORT_FAILED"


class RemoteRejected(ToolboxError):
    """The remote understood and refused: a hook, a protected branch."""

    status = 422
    code = "GIT_REMOTE_REJECTED"


class Killed(ToolboxError):
    """Git was ended from outside, in the middle of it: by a signal, for lack of memory."""

    code = "GIT_KILLED"


_MEANINGS: tuple[tuple[type[ToolboxError], tuple[str, ...]], ...] = (
    # Of the machine
    (InsufficientStorage, ("No space left on device", "Disk quota exceeded")),
    # Why, it does not say; other reasons, as a rule, come up when the file is opened.
    (InsufficientStorage, ("unable to write (file|new.index)", "write error")),
    # Of the remote; the order matters, since several of these come together
    (AuthFailed, ("Authentication failed", "could not read (Username|Password)", "returned error: 401")),
    (AuthFailed, (r"Permission denied \(", "Host key verification failed", "HTTP Basic: Access denied")),
    (Forbidden, ("returned error: 403",)),
    (BranchNotFound, ("Remote branch .* not found", "[Cc]ould(n't| not) find remote ref")),
    (NotFound, ("not our ref", "not allow request for unadvertised object")),
    (RepositoryNotFound, ("repository '.*' (not found|does not exist)", "Repository not found", "returned error: 404")),
    (RepositoryNotFound, ("does not appear to be a git repository", "not a git repository")),
    (NotFound, ("No such remote",)),
    (BadRequest, ("transport '.*' not allowed", "[Uu]nable to find remote helper", "is not a git command")),
    # Of a URL: a path is that of git's configuration.
    (TransportFailed, ("unable to access '[^/]", "Could not resolve host", "unable to (look up|connect)", "timed out")),
    (TransportFailed, ("Connection refused", "Could not read from remote", "hung up unexpectedly", "RPC failed")),
    (TransportFailed, ("early EOF", "unexpected disconnect", "protocol error", "bad line length", "fetch-pack: ")),
    (TransportFailed, ("invalid index-pack output", "index-pack failed", "SSL", "git-remote-[a-z]+ died of signal")),
    # Of the repository
    (Conflict, (r"\.lock': File exists", "cannot lock ref", "could not lock config file .*: File exists")),
    (DirtyWorktree, ("would be overwritten by", "not uptodate", "would lose untracked")),
    (MergeConflict, ("unmerged files", "resolve your current index", "needs merge", "is unmerged", "while merging")),
    (MergeConflict, ("Not possible to fast-forward", "unrelated histories", "in the middle of a merge")),
    (MergeConflict, ("You have not concluded your",)),
    (BranchExists, ("[Aa] branch named '.*' already exists",)),
    (Conflict, ("already exists", "annot delete branch", "already (checked out|used by worktree) at")),
    (
        Conflict,
        (
            "index file corrupt",
            "bad (index file|signature)",
            "index file smaller",
            "(file|object) .* is (empty|corrupt)",
        ),
    ),
    (BranchNotFound, ("branch '.*' not found", "invalid reference: ", "src refspec .* does not match any")),
    (NotFound, ("[Uu]nknown revision", "bad revision", "could not resolve", "[Ff]ailed to resolve", "not a tree")),
    (NotFound, ("[Nn]ot a valid object name", "bad object", "not a commit")),
    (Forbidden, ("dubious ownership", "Permission denied", "Read-only file system", "Operation not permitted")),
    (BadRequest, ("pathspec", "outside repository", "is not a valid", "must be run in a work tree")),
    (BadRequest, ("are ignored by one of", "Aborting commit", "ident name", "name consists only of")),
    (BadRequest, ("invalid initial branch name", "key does not contain", "invalid key", "bad config")),
    (BadRequest, ("beyond a symbolic link", "is in submodule", "Not a directory", "cannot mkdir", "Invalid path")),
    # Last, since it only says that something above has happened: a hook of ours, if none of that did
    (PushRejected, ("failed to push some refs",)),
)
_COMPILED = tuple((kind, re.compile("|".join(patterns))) for kind, patterns in _MEANINGS)
_NOISE = re.compile(
    r"hint:|done\.|Cloning into |Aborting$|Please (commit|move|make)|and the repository exists"
    r"|(remote: )?[A-Z][a-z]+ .*: +\d+%|$"
)


def reason(text: str) -> str:
    """Return what git said, without progress and advice."""
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
    said = "\n".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in lines if not _NOISE.match(line))
    # What went wrong in the end stands last.
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST // 2]} […] {said[-_LONGEST // 2 :]}"


def failure(text: str, *, code: int) -> ToolboxError:
    """Return the error that git's standard error output `text` and exit `code` stand for."""
    said = reason(text) or f"git failed with exit code {code}"
    for kind, pattern in _COMPILED:
        if pattern.search(text):
            return kind(said)
    return ToolboxError(said)
