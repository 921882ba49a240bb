"""Routes of `/git`."""

from toolbox.git.models import (
    AddRequest,
    Branches,
    BranchRequest,
    CheckoutRequest,
    CloneRequest,
    Commit,
    CommitAnswer,
    CommitRequest,
    ConfigQuery,
    ConfigRequest,
    ConfigValue,
    CredentialsRequest,
    HistoryQuery,
    InitRequest,
    PullRequest,
    PushRequest,
    RemoteRequest,
    Remotes,
    RepositoryQuery,
    ResetRequest,
    RestoreRequest,
    Status,
    UserRequest,
)
from toolbox.git.service import Git
from toolbox.web.endpoint import Routes

routes = Routes("git")


@routes.post("/git/clone", "CloneRepository")
async def clone(body: CloneRequest, git: Git) -> None:
    """Clone a repository into a directory that is empty or does not exist; after a failure it is so again."""
    await git.clone(body)


@routes.post("/git/init", "InitRepository", status=201)
async def init(body: InitRequest, git: Git) -> None:
    """Create a repository."""
    await git.init(body)


@routes.get("/git/status", "GetStatus")
async def status(query: RepositoryQuery, git: Git) -> Status:
    """Tell the current branch, how far it is from its upstream, and which files are not as committed."""
    return await git.status(query.path)


@routes.get("/git/history", "GetCommitHistory")
async def history(query: HistoryQuery, git: Git) -> list[Commit]:
    """List the commits that lead to HEAD, newest first."""
    return await git.history(query.path, limit=query.limit, offset=query.offset)


@routes.get("/git/branches", "ListBranches")
async def list_branches(query: RepositoryQuery, git: Git) -> Branches:
    """List the local branches."""
    return await git.branches(query.path)


@routes.post("/git/branches", "CreateBranch", status=201)
async def create_branch(body: BranchRequest, git: Git) -> None:
    """Create a branch at HEAD and check it out."""
    await git.create_branch(body.path, body.name)


@routes.delete("/git/branches", "DeleteBranch", status=204)
async def delete_branch(body: BranchRequest, git: Git) -> None:
    """Delete a branch, merged or not, but never the current one."""
    await git.delete_branch(body.path, body.name)


@routes.post("/git/checkout", "CheckoutBranch")
async def checkout(body: CheckoutRequest, git: Git) -> None:
    """Check out a branch, a remote's branch, a tag or a commit."""
    await git.checkout(body.path, body.branch)


@routes.post("/git/add", "AddFiles")
async def add(body: AddRequest, git: Git) -> None:
    """Stage files."""
    await git.add(body.path, body.files)


@routes.post("/git/commit", "CommitChanges")
async def commit(body: CommitRequest, git: Git) -> CommitAnswer:
    """Commit what is staged. Commit hooks do not run."""
    return CommitAnswer(hash=await git.commit(body))


@routes.post("/git/reset", "ResetChanges")
async def reset(body: ResetRequest, git: Git) -> None:
    """Reset the current branch, or unstage files."""
    await git.reset(body)


@routes.post("/git/restore", "RestoreFiles")
async def restore(body: RestoreRequest, git: Git) -> None:
    """Bring files back to an earlier state."""
    await git.restore(body)


@routes.post("/git/pull", "PullChanges")
async def pull(body: PullRequest, git: Git) -> None:
    """Fetch a branch and fast-forward the current one to it."""
    await git.pull(body)


@routes.post("/git/push", "PushChanges")
async def push(body: PushRequest, git: Git) -> None:
    """Push a branch."""
    await git.push(body)


@routes.get("/git/remotes", "ListRemotes")
async def list_remotes(query: RepositoryQuery, git: Git) -> Remotes:
    """List the remotes."""
    return Remotes(remotes=await git.remotes(query.path))


@routes.post("/git/remotes", "AddRemote", status=201)
async def add_remote(body: RemoteRequest, git: Git) -> None:
    """Add a remote."""
    await git.add_remote(body)


@routes.get("/git/config", "GetGitConfig")
async def get_config(query: ConfigQuery, git: Git) -> ConfigValue:
    """Tell the value of a setting."""
    return ConfigValue(value=await git.get_config(query.key, query.scope, query.path))


@routes.post("/git/config", "SetGitConfig")
async def set_config(body: ConfigRequest, git: Git) -> None:
    """Change a setting."""
    await git.set_config({body.key: body.value}, body.scope, body.path)


@routes.post("/git/config/user", "ConfigureUser")
async def configure_user(body: UserRequest, git: Git) -> None:
    """Set the name and address that commits on the command line get."""
    await git.set_config({"user.name": body.name, "user.email": body.email}, body.scope, body.path)


@routes.post("/git/credentials", "Authenticate")
async def authenticate(body: CredentialsRequest, git: Git) -> None:
    """Keep a login for a host, in plain text, in the user's credential store."""
    await git.keep_login(body)
