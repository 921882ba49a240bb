"""The addresses of previews: `{port}-{sandbox}.localhost`, and paths for clients that look up no such names."""

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from controlplane.objectstore.routes import PREFIX as STORAGE_PREFIX
from controlplane.proxy import PREFIX
from toolbox.config import is_local_host

PREVIEW_PREFIX = "/preview/"
_LOCAL_DOMAIN = "localhost"
_TEMPLATE = "sandbox"
_LABEL = re.compile(r"([0-9]{1,5})-([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\Z")


class Place(NamedTuple):
    """What a preview's host name says: a port, and the id of a sandbox or a signed token."""

    port: str
    name: str


@dataclass
class Links:
    """Where clients find this server: under the address they called, unless one is configured."""

    public_url: str | None
    listening_at: str
    preview_domain: str | None = None
    storage_port: int = 0
    """Port of object storage over TLS, known once it listens; 0: there is none."""

    def base(self, request: web.Request) -> str:
        """Return the URL of this server to tell a client."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return f"{request.scheme}://{request.headers.get(hdrs.HOST) or self.listening_at}"

    def toolbox(self, request: web.Request) -> str:
        """Return the URL of the proxy to the daemons; the sandbox's id comes after it."""
        return self.base(request) + PREFIX.rstrip("/")

    def host(self, request: web.Request) -> str:
        """Return the name of this machine to tell a client."""
        return urlsplit(self.base(request)).hostname or "127.0.0.1"

    def storage(self, request: web.Request) -> str:
        """Return the URL of the object storage to tell a client."""
        if not self.storage_port:
            return self.base(request) + STORAGE_PREFIX
        host = self.host(request)
        return f"https://{f'[{host}]' if ':' in host else host}:{self.storage_port}{STORAGE_PREFIX}"

    def preview(self, request: web.Request, port: int, name: str) -> tuple[str, str]:
        """Return the URL of a preview and its form as a path; they are the same where no host names lead here."""
        base = self.base(request)
        path = f"{base}{PREVIEW_PREFIX}{port}/{name}"
        parts = urlsplit(base)
        if self.preview_domain:
            return f"{parts.scheme}://{port}-{name}.{self.preview_domain}", path
        if is_local_host(parts.hostname) and not parts.path:
            authority = _LOCAL_DOMAIN if parts.port is None else f"{_LOCAL_DOMAIN}:{parts.port}"
            return f"{parts.scheme}://{port}-{name}.{authority}", path
        return path, path

    def preview_template(self, request: web.Request) -> str:
        """Return the URL of previews with words in braces for port and sandbox."""
        url, _ = self.preview(request, 0, _TEMPLATE)
        return url.replace(f"0-{_TEMPLATE}.", "{{PORT}}-{{sandboxId}}.").replace(
            f"{PREVIEW_PREFIX}0/{_TEMPLATE}", f"{PREVIEW_PREFIX}{{{{PORT}}}}/{{{{sandboxId}}}}"
        )

    def place(self, authority: str) -> Place | None:
        """Return what a Host header says if it is that of a preview."""
        host = authority.lower().partition(":")[0]
        for domain in (_LOCAL_DOMAIN, (self.preview_domain or "").lower().partition(":")[0]):
            if domain and host.endswith(f".{domain}"):
                found = _LABEL.match(host.removesuffix(f".{domain}"))
                if found is not None:
                    return Place(found[1], found[2])
        return None

    def mount(self, authority: str) -> str:
        """Return the path that the whole of a host stands for; empty for a host that is not a preview's."""
        place = self.place(authority)
        return f"{PREVIEW_PREFIX}{place.port}/{place.name}" if place is not None else ""
