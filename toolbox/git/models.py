"""Wire models of `/git`. Requests and their fields are snake_case on the wire too, answers partly camelCase."""

from typing import Annotated, Literal

import msgspec

from toolbox.web.wire import Model, Text

Scope = Literal["", "global", "local", "system"]
"""Which configuration file; empty is `global`."""

State = Literal["Unmodified", "Untracked", "Modified", "Added", "Deleted", "Renamed", "Copied", "Updated but unmerged"]


class Body(msgspec.Struct, kw_only=True):
    """A wire model whose fields are snake_case on the wire."""


class RepositoryQuery(Model):
    """Names a repository: its root, a directory in it, or a linked worktree."""

    path: Text


class CloneRequest(Body):
    """A repository to copy from elsewhere. Credentials count only if both parts are given."""

    url: Text
    path: Text
    branch: str = ""
    commit_id: str = ""
    """Checked out in the end, detached."""
    username: str = ""
    password: str = ""
    insecure_skip_tls: bool = False
    depth: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    """Commits of history; 0 for all."""


class AddRequest(Body):
    """Files and directories to stage, literally as named."""

    path: Text
    files: list[str]


class CommitRequest(Body):
    """A commit of what is staged."""

    path: Text
    message: Text
    author: Text
    email: Text
    allow_empty: bool = False


class CommitAnswer(Model):
    """The new commit."""

    hash: str


class FileStatus(Model):
    """One file that is not as committed."""

    name: str
    """Relative to the root of the work tree; bytes that are not UTF-8 as `/files` writes them in paths."""
    extra: str
    """The old name, of a rename or copy."""
    staging: State
    worktree: State


class Status(Model):
    """The state of a work tree."""

    current_branch: str
    """`HEAD` when detached."""
    file_status: list[FileStatus]
    branch_published: bool
    """There is an upstream, and it was there at the last fetch."""
    ahead: int
    behind: int
    upstream: str
    detached: bool


class HistoryQuery(Model):
    """Which commits to list; without `limit` all."""

    path: Text
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class Commit(Model):
    """One commit."""

    hash: str
    author: str
    email: str
    message: str
    timestamp: str
    """When it was authored, in the author's time zone."""


class BranchRequest(Body):
    """Names a branch."""

    path: Text
    name: Text


class Branches(Model):
    """The local branches."""

    branches: list[str]
    current: str
    """Empty when HEAD is detached; a branch without a commit is current but not listed."""


class CheckoutRequest(Body):
    """A branch, a remote's branch, a tag or a commit."""

    path: Text
    branch: Text


class PullRequest(Body):
    """What to pull: by default the upstream of the current branch, without one its namesake on `origin`."""

    path: Text
    username: str = ""
    password: str = ""
    branch: str = ""
    remote: str = ""


class PushRequest(PullRequest):
    """What to push: by default the current branch, to its namesake on `origin`."""

    set_upstream: bool = False


class InitRequest(Body):
    """A repository to create."""

    path: Text
    bare: bool = False
    initial_branch: str = ""


class ResetRequest(Body):
    """What to reset, and to which commit."""

    path: Text
    mode: Literal["", "soft", "mixed", "hard", "merge", "keep"] = ""
    target: str = ""
    files: list[str] = []


class RestoreRequest(Body):
    """Files to restore: in the work tree, unless only `staged` is asked for."""

    path: Text
    files: Annotated[list[str], msgspec.Meta(min_length=1)]
    staged: bool = False
    worktree: bool = False
    source: str = ""


class Remote(Model):
    """A remote repository; its URL without user name or password."""

    name: str
    url: str


class Remotes(Model):
    """The remotes of a repository."""

    remotes: list[Remote]


class RemoteRequest(Body):
    """A remote to add."""

    path: Text
    name: Text
    url: Text
    fetch: bool = False
    overwrite: bool = False


class ConfigQuery(Model):
    """One setting."""

    key: Text
    scope: Scope = ""
    path: str = ""


class ConfigValue(Model):
    """The value of a setting, null when it is not set."""

    value: str | None


class ConfigRequest(Body):
    """A setting to change."""

    key: Text
    value: str
    scope: Scope = ""
    path: str = ""


class UserRequest(Body):
    """Who commits."""

    name: Text
    email: Text
    scope: Scope = ""
    path: str = ""


class CredentialsRequest(Body):
    """A login to keep for a host, in git's plaintext store."""

    username: Text
    password: Text
    host: str = ""
    protocol: str = ""
