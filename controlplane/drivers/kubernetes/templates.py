"""The templates and warm pools of the namespace: what sandboxes are copies of."""

import logging
from contextlib import AsyncExitStack
from typing import Any, Self

from controlplane.cluster.api import Cluster
from controlplane.cluster.kinds import POOL, TEMPLATE, Pool, Template
from controlplane.cluster.mirror import Mirror
from controlplane.cluster.names import WORKLOAD
from controlplane.drivers.base import DriverError, Resources
from controlplane.drivers.kubernetes.quantities import GIB, parse_quantity, whole

log = logging.getLogger(__name__)

ORGANIZATION = "sandbox-toolbox.dev/organization"
"""Annotation of a pool that serves one organisation alone."""
_DAEMON_IMAGE = "sandbox-toolbox.dev/daemon-image"
HOME = "home"
"""Name of the claim template for what outlives a pod."""
_DEFAULTS = Resources(cpu=1, memory=1, disk=10)


class Blueprint:
    """The spec of a template, read."""

    def __init__(self, template: Template) -> None:
        self.name = template.metadata.name
        self.spec: dict[str, Any] = template.spec
        self.annotations = template.metadata.annotations
        try:
            self._container: dict[str, Any] = self.spec["podTemplate"]["spec"]["containers"][0]
        except (KeyError, IndexError, TypeError):
            raise DriverError(f"the template {self.name} has no container") from None

    @property
    def image(self) -> str:
        """The image of the daemon's container."""
        return str(self._container.get("image", ""))

    @property
    def daemon_image(self) -> str | None:
        """The image that pods of other images get the daemon from, None if those have it themselves."""
        return self.annotations.get(_DAEMON_IMAGE)

    @property
    def is_labelled(self) -> bool:
        """Whether its pods are seen: those of a warm pool have no other labels than the template's."""
        labels = (self.spec["podTemplate"].get("metadata") or {}).get("labels") or {}
        return bool(labels.get(WORKLOAD) == "sandbox")

    @property
    def home(self) -> dict[str, Any] | None:
        """The claim template for home, None if nothing outlives a pod."""
        for each in self.spec.get("volumeClaimTemplates") or []:
            if each.get("metadata", {}).get("name") == HOME:
                return dict(each)
        return None

    @property
    def resources(self) -> Resources:
        """What a sandbox gets that asks for nothing. Raises `DriverError`."""
        given = self._container.get("resources") or {}
        limits = {**(given.get("requests") or {}), **(given.get("limits") or {})}
        home = self.home
        disk = ((home or {}).get("spec", {}).get("resources", {}).get("requests") or {}).get("storage")
        try:
            return Resources(
                cpu=whole(parse_quantity(limits["cpu"])) if "cpu" in limits else _DEFAULTS.cpu,
                memory=whole(parse_quantity(limits["memory"]) / GIB) if "memory" in limits else _DEFAULTS.memory,
                disk=whole(parse_quantity(disk) / GIB) if disk is not None else _DEFAULTS.disk,
            )
        except ValueError as error:
            raise DriverError(f"the template {self.name}: {error}") from None


class Templates:
    """All of them, kept up by watches."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._name = name
        self.namespace = cluster.namespace
        self._templates = Mirror(cluster, TEMPLATE, "")
        self.pools = Mirror(cluster, POOL, "")
        self._read: dict[str, tuple[str, Blueprint]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._templates)
            await stack.enter_async_context(self.pools)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def put(self, template: Template) -> None:
        """Take in a template that was just written."""
        self._templates.put(template)

    @property
    def default(self) -> Blueprint:
        """What sandboxes are made from. Raises `DriverError` if there is no such template."""
        return self.blueprint(self._name)

    def blueprint(self, name: str) -> Blueprint:
        """Return the template of that name. Raises `DriverError`."""
        template = self._templates.get(name)
        if template is None:
            raise DriverError(f"there is no SandboxTemplate {name} in namespace {self.namespace}")
        version, known = template.metadata.resource_version, self._read.get(name)
        if known is None or known[0] != version:
            known = self._read[name] = (version, Blueprint(template))
        return known[1]

    def pool_of(self, image: str | None, resources: Resources, organization: str) -> Pool | None:
        """Return a warm pool of sandboxes with this image (None: the default) and these resources, if there is one."""
        wanted = image or self.default.image
        for pool in self.pools:
            owner = pool.metadata.annotations.get(ORGANIZATION, organization)
            if pool.spec.replicas < 1 or pool.metadata.deletion_timestamp is not None or owner != organization:
                continue
            try:
                blueprint = self.blueprint(pool.spec.sandbox_template_ref.get("name", ""))
                if blueprint.is_labelled and blueprint.image == wanted and blueprint.resources == resources:
                    return pool
            except DriverError as error:
                log.warning(
                    "a warm pool cannot be used", extra={"fields": {"pool": pool.metadata.name, "why": error.message}}
                )
        return None
