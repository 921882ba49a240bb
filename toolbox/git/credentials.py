"""Logins for remotes: taken out of URLs, given to one git process and to nobody else.

Git asks a helper for a login when a server wants one. Ours is configured in the environment of that one process, for
that one server (a redirect or a submodule elsewhere gets nothing), in place of all other helpers, so that git does not
keep the login either. The helper prints a nameless file in memory that the process inherits: the login itself stands
in no argument, variable, file or configuration.
"""

import os
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from toolbox.errors import BadRequest

_USERINFO = re.compile(r"(\w[\w+.-]*://)[^/@\s'\"]*@")
_FORBIDDEN = re.compile(r"[\0\r\n]")
_SHORTEST_HIDDEN = 4


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and password for one server."""

    origin: str
    """Scheme, host and port, as in a URL."""
    username: str
    password: str = field(repr=False)

    @property
    def record(self) -> bytes:
        """What a helper of git prints."""
        return f"username={self.username}\npassword={self.password}\n".encode()

    def settings(self, descriptor: int) -> list[tuple[str, str]]:
        """Return the settings by which git finds the login in a file that it inherits."""
        # Opened anew each time, so that it can be asked more than once. Git adds the word for what it wants.
        helper = f'!f() {{ test "$1" != get || cat /proc/self/fd/{descriptor}; }}; f'
        return [("credential.helper", ""), (f"credential.{self.origin}.helper", helper)]

    def hide_in(self, text: str) -> str:
        """Return `text` without the password, should a server have echoed it."""
        return text.replace(self.password, "***") if len(self.password) >= _SHORTEST_HIDDEN else text


@dataclass(frozen=True, slots=True)
class Source:
    """Where a remote is, and the login for it, if there is one."""

    url: str
    login: Login | None = None


def source(url: str, username: str = "", password: str = "") -> Source:
    """Return where `url` leads, without the login in it, and that login or the one given. Raises `BadRequest`."""
    for part in (url, username, password):
        if _FORBIDDEN.search(part):
            raise BadRequest("a URL, user name or password cannot contain line breaks or NUL")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return Source(strip(url))
    # Not urlsplit: what stands before the last @ of the authority may be unquoted.
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    userinfo, _, host = authority.rpartition("@")
    bare = f"{scheme}://{host}{rest[len(authority) :]}"
    if username and password:
        return Source(bare, Login(f"{scheme}://{host}", username, password))
    name, _, word = userinfo.partition(":")
    return Source(bare, Login(f"{scheme}://{host}", unquote(name), unquote(word)) if userinfo else None)


def strip(url: str) -> str:
    """Return `url` without login; the user name of an SSH URL stays, it says where to go."""
    if url.lower().startswith(("ssh://", "git+ssh://", "ssh+git://")):
        return re.sub(r"^([\w+]+://[^/@:]*):[^/@]*@", r"\1@", url)
    return redact(url)


def redact(text: str) -> str:
    """Return `text` without the logins of URLs in it."""
    return _USERINFO.sub(r"\1", text)


def https_unless_local(url: str, work_dir: str) -> str:
    """Return `url` with the scheme that `github.com/owner/name` leaves out; what may be a path or SSH stays."""
    if re.match(r"[\w-]+(\.[\w-]+)+(:\d+)?/", url) and not os.path.lexists(os.path.join(work_dir, url)):
        return f"https://{url}"
    return url


def record(protocol: str, host: str, username: str, password: str) -> bytes:
    """Return a login as git's helpers take it. Raises `BadRequest`."""
    for part in (protocol, host, username, password):
        if _FORBIDDEN.search(part):
            raise BadRequest("a login cannot contain line breaks or NUL")
    if not re.fullmatch(r"[a-z][a-z+]*", protocol) or not urlsplit(f"{protocol}://{host}").hostname or "/" in host:
        raise BadRequest(f"not a server: {protocol}://{host}")
    return f"protocol={protocol}\nhost={host}\nusername={username}\npassword={password}\n\n".encode()
