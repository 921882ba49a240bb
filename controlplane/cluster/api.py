"""The API server: objects of one namespace read, written and watched."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from controlplane.cluster.kinds import ClusterError, Kind, O
from controlplane.store import Contended
from toolbox.config import ConfigError
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError, Unavailable

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

log = logging.getLogger(__name__)

_SECONDS = 20.0
_WATCH_SECONDS = 300
_SILENT_SECONDS = 100.0
"""The server sends a bookmark about every minute: after more silence than this it is gone."""
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_PATCH_FAILED = "the server rejected our request due to an error in our request"
"""All that it says when a JSON patch does not apply: what fails in ours is a `test`."""
_MERGE, _JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"


class QuotaExceeded(ToolboxError):
    """The namespace's quota, or the cluster's policy, does not allow it."""

    status = 403
    code = "QUOTA_EXCEEDED"


class Expired(Exception):
    """A watch cannot go on from where it was: everything has to be listed anew."""


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Cluster:
    """One namespace of a cluster."""

    def __init__(self, client: "ApiClient", namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    @classmethod
    @asynccontextmanager
    async def open(cls, kubeconfig: Path | None, namespace: str | None) -> AsyncIterator["Cluster"]:
        """Find the cluster: by a file, else as a pod, else by the default file. Raises `ConfigError`."""
        try:
            from kubernetes_asyncio.client import ApiClient, Configuration  # noqa: PLC0415 -- heavy, optional
        except ModuleNotFoundError as error:
            raise ConfigError(f"the kubernetes driver needs the extra sandbox-toolbox[kubernetes]: {error}") from None
        configuration = Configuration()
        # Files are read, and a plug-in for credentials may run.
        found = await asyncio.to_thread(_configure, configuration, kubeconfig)
        async with ApiClient(configuration) as client:
            yield cls(client, namespace or found)

    async def create(self, kind: Kind[O], body: Mapping[str, Any]) -> O:
        """Make an object. Raises `Conflict` when there is one of that name, and as `request`."""
        body = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        return kind.decode(await self.request("POST", kind.path(self.namespace), body=body))

    async def get(self, kind: Kind[O], name: str) -> O | None:
        """Return an object, None if there is none."""
        try:
            return kind.decode(await self.request("GET", kind.path(self.namespace, name)))
        except NotFound:
            return None

    async def all(self, kind: Kind[O], selector: str = "") -> tuple[list[O], str]:
        """Return the objects with some labels, and the version that a watch goes on from."""
        query = [("labelSelector", selector), ("limit", "500")]
        found: list[O] = []
        following: list[tuple[str, str]] = []
        while True:
            data = await self.request("GET", kind.path(self.namespace), query=query + following)
            page = kind.decode_list(data)
            found += page.items
            if not page.metadata.continue_:
                return found, page.metadata.resource_version
            following = [("continue", page.metadata.continue_)]

    async def watch(self, kind: Kind[O], selector: str, version: str) -> AsyncGenerator[tuple[str, O], None]:
        """Yield what happens to objects (ADDED, MODIFIED, DELETED, BOOKMARK) until the server ends it.

        Raises `Expired`, and as `request`.
        """
        query = [
            ("labelSelector", selector),
            ("watch", "true"),
            ("resourceVersion", version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(_WATCH_SECONDS)),
        ]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SECONDS, sock_read=_SILENT_SECONDS)
        response = await self._send("GET", kind.path(self.namespace), query, timeout=timeout)
        async with response:
            try:
                if response.status != 200:  # noqa: PLR2004
                    raise _error(response.status, await response.read(), "watch")
                async for line in response.content:
                    event = msgspec.json.decode(line, type=_Event)
                    if event.type == "ERROR":
                        status = msgspec.json.decode(event.object, type=_Status)
                        raise _error(status.code, event.object, "watch")
                    yield event.type, kind.decode(event.object)
            except (OSError, aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
                raise Unavailable(f"the watch of {kind.plural} broke off: {error or type(error).__name__}") from None

    async def patch(self, kind: Kind[O], name: str, changes: Mapping[str, Any] | list[dict[str, Any]]) -> O:
        """Change an object: a mapping is merged into it, a list is a JSON patch.

        Raises `Contended` when a `test` of the patch fails, `NotFound`, and as `request`.
        """
        content = _JSON_PATCH if isinstance(changes, list) else _MERGE
        path = kind.path(self.namespace, name)
        return kind.decode(await self.request("PATCH", path, body=changes, content=content))

    async def replace(self, kind: Kind[O], name: str, body: Mapping[str, Any]) -> O:
        """Write an object anew. Raises `Contended` if it is no more the version that the body names."""
        body = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        return kind.decode(await self.request("PUT", kind.path(self.namespace, name), body=body))

    async def delete(
        self, kind: Kind[O], name: str, *, grace_seconds: int | None = None, uid: str | None = None
    ) -> bool:
        """Remove an object and, later, what belongs to it; tell whether it was there."""
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", kind.path(self.namespace, name), body=body)
        except NotFound:
            return False
        return True

    async def log(self, pod: str, *, lines: int) -> str:
        """Return the end of what a pod's first container wrote. Raises `NotFound`."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        return (await self.request("GET", path, query=[("tailLines", str(lines))])).decode("utf-8", "replace")

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> bytes:
        """Return what the server answers. Raises `NotFound`, `Conflict`, `BadRequest`, `ClusterError` ..."""
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        response = await self._send(method, path, query, body=body, content=content, timeout=timeout)
        try:
            async with response:
                data: bytes = await response.read()
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"the API server broke off: {error or type(error).__name__}") from None
        if response.status >= 400:  # noqa: PLR2004
            raise _error(response.status, data, f"{method} {path}")
        return data

    async def _send(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None,
        *,
        body: Any = None,
        content: str = "application/json",
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await self._client.call_api(
                path,
                method,
                query_params=[(name, value) for name, value in query or [] if value],
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"the API server does not answer: {error or type(error).__name__}") from None
        return response


def _configure(configuration: Any, kubeconfig: Path | None) -> str:
    """Fill a configuration of the library, and return the namespace that goes with it. Raises `ConfigError`."""
    from kubernetes_asyncio.config import (  # noqa: PLC0415 -- heavy, optional
        ConfigException,
        list_kube_config_contexts,
        load_incluster_config,
        load_kube_config,
    )

    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return _POD_NAMESPACE.read_text().strip() or "default"
        file = str(kubeconfig) if kubeconfig is not None else None
        asyncio.run(load_kube_config(config_file=file, client_configuration=configuration))
        _, active = list_kube_config_contexts(config_file=file)
        return str((active or {}).get("context", {}).get("namespace") or "default")
    except (ConfigException, OSError, KeyError, ValueError) as error:
        raise ConfigError(f"cannot find the cluster: {error}") from None


def _error(status: int, data: bytes | msgspec.Raw, what: str) -> Exception:
    try:
        said = msgspec.json.decode(data, type=_Status)
    except msgspec.DecodeError:
        said = _Status(message=bytes(data)[:300].decode("utf-8", "replace"))
    text = said.message or f"status {status}"
    match status:
        case 404:
            return NotFound(text)
        case 409:
            return Conflict(text) if said.reason == "AlreadyExists" else Contended(text)
        case 410:
            return Expired(text)
        case 422 if _PATCH_FAILED in text:
            return Contended(text)
        case 400 | 422:
            return BadRequest(f"the cluster refuses it: {text}")
        case 403 if "quota" in text or "admission" in text or "violates" in text:
            return QuotaExceeded(f"the cluster does not allow it: {text}")
        case 429 | 502 | 503 | 504:
            return Unavailable(f"the API server is busy: {text}")
        case 500 if said.reason in ("Timeout", "ServerTimeout"):
            return Unavailable(f"the API server is busy: {text}")
        case _:
            return ClusterError(f"{what}: {text}")


def merge(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings laid over each other, the later ones above."""
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            before = found.get(name)
            found[name] = merge(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return found


def copied(value: Any) -> Any:
    """Return a deep copy of a JSON value."""
    return json.loads(json.dumps(value))
