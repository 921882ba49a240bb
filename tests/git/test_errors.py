"""What git's words mean, those that a test cannot make it say included."""

import pytest

from toolbox.errors import ToolboxError
from toolbox.git.credentials import redact, source, strip
from toolbox.git.errors import failure

BROKEN = "fatal: Could not read from remote repository."


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("git@github.com: Permission denied (publickey).\n" + BROKEN, 401, "GIT_AUTH_FAILED"),
        ("Host key verification failed.\n" + BROKEN, 401, "GIT_AUTH_FAILED"),
        ("ERROR: Repository not found.\n" + BROKEN, 404, "GIT_REPO_NOT_FOUND"),
        ("ssh: Could not resolve hostname x\n" + BROKEN, 502, "GIT_TRANSPORT_FAILED"),
        ("error: RPC failed; curl 92 HTTP/2 stream 5\nfatal: early EOF", 502, "GIT_TRANSPORT_FAILED"),
        ("fatal: unable to access 'https://x/': SSL certificate problem: expired", 502, "GIT_TRANSPORT_FAILED"),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", 403, "FORBIDDEN"),
        ("fatal: write error: No space left on device\nfatal: index-pack failed", 507, "INSUFFICIENT_STORAGE"),
        ("fatal: detected dubious ownership in repository at '/x'", 403, "FORBIDDEN"),
        ("error: could not open '.git/x': Permission denied", 403, "FORBIDDEN"),
        ("warning: unable to access '/x/.gitconfig': Permission denied\nerror: invalid key: x", 403, "FORBIDDEN"),
        ("fatal: something that nobody has seen yet", 500, "INTERNAL_SERVER_ERROR"),
        ("", 500, "INTERNAL_SERVER_ERROR"),
    ],
)  # fmt: skip
def test_meanings(said: str, status: int, code: str) -> None:
    error = failure(said, code=128)
    assert isinstance(error, ToolboxError)
    assert (error.status, error.code) == (status, code)
    assert error.message


def test_the_reason_is_what_matters() -> None:
    said = (
        "Cloning into 'x'...\nremote: Counting objects:  50% (1/2)\rremote: Counting objects: 100% (2/2), done.\n"
        "hint: try this\nfatal: the reason\n" + "x" * 10_000 + "\nerror: the end\n"
    )
    message = failure(said, code=1).message
    assert message.startswith("the reason\nxxx")
    assert message.endswith("xxx\nthe end")
    assert len(message) < 2100


def test_logins_leave_urls() -> None:
    found = source("https://us%40er:p%3Aw@host:8443/path@x?a=b@c")
    assert found.url == "https://host:8443/path@x?a=b@c"
    assert found.login is not None
    assert (found.login.origin, found.login.username, found.login.password) == ("https://host:8443", "us@er", "p:w")
    assert "p:w" not in repr(found)
    token = source("https://token@host/x").login
    assert token is not None
    assert (token.username, token.password) == ("token", "")
    given = source("https://old:word@host/x", "new", "word 2").login
    assert given is not None
    assert (given.username, given.password) == ("new", "word 2")
    assert source("https://host/x", "name only").login is None
    for url in ("git@host:a/b", "ssh://git@host/a", "/a@b/c", "file:///a@b", "a:b@c"):
        assert source(url).url == strip(url) == url
    assert strip("ssh://git:word@host/a") == "ssh://git@host/a"
    assert redact("fatal: 'https://u:p@h/x' and http://t@h/y") == "fatal: 'https://h/x' and http://h/y"
