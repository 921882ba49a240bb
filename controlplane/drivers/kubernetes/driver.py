"""The `kubernetes` driver: hands sandboxes to agent-sandbox, and takes their daemons into use."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self

from controlplane.cluster.api import Cluster
from controlplane.cluster.fleet import Entry, Fleet
from controlplane.cluster.kinds import (
    CLAIM,
    NETWORK_POLICY,
    POD,
    SANDBOX,
    VOLUME_CLAIM,
    Kind,
    Pod,
)
from controlplane.cluster.leases import Leases
from controlplane.cluster.names import EGRESS, MANAGED, PORT, digest_name, sandbox_name, volume_name
from controlplane.drivers.base import (
    Ability,
    Access,
    Address,
    Death,
    Driver,
    DriverError,
    Launch,
    Log,
    Network,
    Resources,
)
from controlplane.drivers.kubernetes.images import check_image
from controlplane.drivers.kubernetes.manifests import LISTED, allow_policy, container_resources, egress_of, sandbox_spec
from controlplane.drivers.kubernetes.reasons import cause, has_ended, hopeless, why_not_ready
from controlplane.drivers.kubernetes.refusals import check_supported
from controlplane.drivers.kubernetes.templates import Templates
from controlplane.drivers.outfit import variables
from controlplane.keys import SandboxKeys
from controlplane.models import CreateSandbox, Image, Record
from controlplane.sandboxes import launch_of
from controlplane.states import State
from controlplane.upstreams import Upstream
from toolbox.errors import BadRequest, Conflict, NotFound, ToolboxError
from toolbox.lifetime import TaskSet

log = logging.getLogger(__name__)

_STOP_SECONDS = 90.0
_LOOK_SECONDS = 10.0
_LOG_LINES = 1000
_USER = "sandbox"
_CLASS, _MODE, _SIZE = (f"sandbox-toolbox.dev/volume-{name}" for name in ("storage-class", "access-mode", "size"))
"""Annotations of the template: what volumes of the API are made as."""


class KubernetesDriver(Driver):
    """Sandboxes as objects of one namespace. Any number of control planes use them together."""

    name = "kubernetes"
    replicated = True

    def __init__(
        self,
        cluster: Cluster,
        fleet: Fleet,
        templates: Templates,
        leases: Leases,
        keys: SandboxKeys,
        *,
        start_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._fleet = fleet
        self._templates = templates
        self._leases = leases
        self._keys = keys
        self._start_seconds = start_seconds
        self._death: Death | None = None
        self._looking: set[str] = set()
        self._tasks = TaskSet()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._tasks)
            self._stack = stack.pop_all()
        self._fleet.follow(self._changed)
        self._leases.lead(self._look_at_all, "sandboxes whose pods have ended")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def abilities(self) -> frozenset[Ability]:  # type: ignore[override]
        """What it can do; whether files outlive a stop is up to the template."""
        always = {Ability.RESIZE, Ability.IMAGES, Ability.VOLUMES, Ability.NETWORK}
        try:
            keeps = self._templates.default.home is not None
        except DriverError:
            keeps = True
        return frozenset(always | ({Ability.KEEP} if keeps else set()))

    @property
    def user(self) -> str:  # type: ignore[override]
        """The user that sandboxes run as by default: the template's number, else a name for what the image says."""
        try:
            spec = self._templates.default.spec["podTemplate"]["spec"]
        except (DriverError, KeyError):
            return _USER
        contexts = (spec["containers"][0].get("securityContext") or {}, spec.get("securityContext") or {})
        return next((str(each["runAsUser"]) for each in contexts if "runAsUser" in each), _USER)

    def check(self, wanted: CreateSandbox) -> Resources:
        """Return what the sandbox will get. Raises `BadRequest` naming the first field that cannot be honoured."""
        return check_supported(wanted, self._templates.default, user=self.user)

    def watch(self, death: Death) -> None:
        """Report unexpected ends of daemons to `death` from now on."""
        self._death = death

    def is_running(self, sandbox_id: str) -> bool:
        """Tell whether the pod that the sandbox was started in runs, as far as is known."""
        entry = self._fleet.get(sandbox_id)
        return entry is not None and not self._has_ended(entry)

    def manifest(self, record: Record) -> tuple[Kind[Any], dict[str, Any]]:
        """Return what stands for a new sandbox: a claim where a warm pool has just what is wanted, else a Sandbox."""
        launch, blueprint = launch_of(record), self._templates.default
        # What it is made of is told later (`create`).
        pending = record.state is State.PENDING_BUILD
        pool = self._warm_pool(launch, record.organization_id) if not pending else None
        lifecycle: dict[str, Any] = {}
        if record.auto_destroy_at is not None:
            moment = f"{record.auto_destroy_at.partition('.')[0]}Z"
            lifecycle = {"shutdownTime": moment, "shutdownPolicy": "Delete"}
        if pool is not None:
            return CLAIM, {"spec": {"warmPoolRef": {"name": pool}, **({"lifecycle": lifecycle} if lifecycle else {})}}
        mode = {"operatingMode": "Suspended" if pending else "Running"}
        return SANDBOX, {"spec": {**sandbox_spec(blueprint, launch), **mode, **lifecycle}}

    def _warm_pool(self, launch: Launch, organization: str) -> str | None:
        """Return the warm pool that serves a sandbox, None if it needs a pod of its own kind."""
        special = launch.mounts or launch.entrypoint or launch.otel_endpoint or egress_of(launch.network)
        if special or launch.resources is None or launch.user not in (None, self.user):
            return None
        image = launch.image.ref if launch.image is not None else None
        pool = self._templates.pool_of(image, launch.resources, organization)
        return pool.metadata.name if pool is not None else None

    async def create(self, launch: Launch) -> None:
        """Make what goes with a sandbox; what stands for it was made with its record. Raises `DriverError`."""
        entry = self._entry(launch.id)
        if entry.record.build_info is not None:
            await self._tell_image(entry, launch)
        if egress_of(launch.network) == LISTED:
            await self._allow(entry, launch.network)

    async def _tell_image(self, entry: Entry, launch: Launch) -> None:
        """Let a sandbox run that was made before its image was known."""
        spec = sandbox_spec(self._templates.default, launch)
        changes = [
            {"op": "replace", "path": f"/spec/{name}", "value": spec[name]} for name in ("podTemplate", "operatingMode")
        ]
        self._fleet.put(SANDBOX, await self._cluster.patch(SANDBOX, entry.sandbox, changes))

    async def start(self, launch: Launch) -> Access:
        """Let the sandbox have a pod, and return once its daemon is in use. Raises `DriverError`."""
        if self._entry(launch.id).record.state is State.CREATING:
            return await self._come_up(launch)
        entry = await self._fleet.fresh(launch.id)
        if entry is not None and not (entry.suspended and self._fleet.pod(entry) is None):
            # A pod that has ended is in the way of a new one, and so is what was said of it.
            await self._suspend(entry, force=True)
        # Its network may have been changed meanwhile.
        await self.set_network(launch.id, launch.network)
        await self._set_mode(self._entry(launch.id), "Running")
        try:
            return await self._come_up(launch)
        except DriverError:
            # It must not come up later, when nobody waits for it.
            with suppress(ToolboxError):
                await self._set_mode(self._entry(launch.id), "Suspended")
            raise

    async def _come_up(self, launch: Launch) -> Access:
        entry, pod = await self._ready(launch.id)
        return await self._take_into_use(entry, pod, launch)

    async def _ready(self, sandbox_id: str) -> tuple[Entry, Pod]:
        """Wait until the controller says that a sandbox is ready. Raises `DriverError`."""
        try:
            async with asyncio.timeout(self._start_seconds):
                while True:
                    entry = self._entry(sandbox_id)
                    pod = self._fleet.pod(entry)
                    # What the controller says may be of the pod before.
                    if entry.ready and pod is not None and not has_ended(pod) and pod.status.pod_ip == entry.address:
                        return entry, pod
                    if entry.reason != "SandboxSuspended" and (problem := hopeless(entry, pod)) is not None:
                        raise DriverError(f"the sandbox does not start: {problem}")
                    await self._fleet.changes(sandbox_id)
        except TimeoutError:
            entry = self._entry(sandbox_id)
            why = why_not_ready(entry, self._fleet.pod(entry))
            raise DriverError(f"the sandbox was not ready within {self._start_seconds:.0f} s: {why}") from None

    async def _take_into_use(self, entry: Entry, pod: Pod, launch: Launch) -> Access:
        """Give a daemon its token and its variables. Raises `DriverError`."""
        access = self._access(entry, instance=pod.metadata.uid)
        async with Upstream(access) as upstream:
            version = await upstream.initialize(variables(launch))
        return Access(address=access.address, token=access.token, daemon_version=version, instance=access.instance)

    def _access(self, entry: Entry, *, instance: str) -> Access:
        host = f"[{entry.address}]" if ":" in entry.address else entry.address
        return Access(address=Address(host=host, port=PORT), token=self._keys.daemon_token(entry.id), instance=instance)

    def reach(self, sandbox_id: str) -> Access | None:
        """Return how to reach the daemon of a sandbox that is started, whichever replica started it."""
        entry = self._fleet.get(sandbox_id)
        if entry is None or entry.record.state is not State.STARTED or not entry.address:
            return None
        return self._access(entry, instance=entry.record.instance)

    async def adopt(self, sandbox_id: str) -> Access | None:
        """Take a daemon into use that a replica which is no more may have begun to; None if it is not ready."""
        entry = self._fleet.get(sandbox_id)
        pod = self._fleet.pod(entry) if entry is not None else None
        if entry is None or pod is None or not entry.ready:
            return None
        try:
            return await self._take_into_use(entry, pod, launch_of(entry.record))
        except DriverError:
            return None

    async def stop(self, sandbox_id: str, *, force: bool) -> None:
        """Take the sandbox's pod away; its home stays. Raises `DriverError`."""
        await self._suspend(self._entry(sandbox_id), force=force)

    async def _suspend(self, entry: Entry, *, force: bool) -> None:
        await self._set_mode(entry, "Suspended")
        if force and entry.sandbox:
            await self._cluster.delete(POD, entry.sandbox, grace_seconds=0)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                while not (entry := self._entry(entry.id)).suspended or self._fleet.pod(entry) is not None:
                    await self._fleet.changes(entry.id)
        except TimeoutError:
            raise DriverError(f"the sandbox's pod did not end within {_STOP_SECONDS:.0f} s") from None

    async def _set_mode(self, entry: Entry, mode: str) -> None:
        if not entry.sandbox:
            raise DriverError("the sandbox's claim has got no sandbox")
        try:
            found = await self._cluster.patch(SANDBOX, entry.sandbox, {"spec": {"operatingMode": mode}})
        except NotFound:
            raise DriverError("the sandbox's object was removed from the cluster") from None
        if entry.kind is SANDBOX:
            self._fleet.put(SANDBOX, found)

    async def discard(self, sandbox_id: str) -> None:
        """Take away what was begun of a sandbox whose record stays. Raises `DriverError`."""
        await self._suspend(self._entry(sandbox_id), force=True)

    async def delete(self, sandbox_id: str) -> None:
        """Remove what stands for a sandbox; the cluster removes what belongs to it. Raises `DriverError`."""
        entry = await self._fleet.fresh(sandbox_id)
        if entry is not None:
            await self._cluster.delete(entry.kind, entry.metadata.name)
            self._fleet.drop(entry)

    async def recover(self, keep: Collection[str], frozen: Collection[str] = ()) -> Mapping[str, Access]:
        """Return nobody: replicas share the sandboxes, and the end of one is none of theirs."""
        del keep, frozen
        return {}

    async def present(self) -> list[str]:
        """Return the ids of all sandboxes."""
        return [each.id for each in self._fleet]

    async def logs(self, sandbox_id: str) -> str:
        """Return the end of what the daemon wrote. Raises `BadRequest` without a pod, `DriverError`."""
        entry = self._entry(sandbox_id)
        try:
            return await self._cluster.log(entry.sandbox, lines=_LOG_LINES)
        except NotFound:
            raise BadRequest(f"sandbox {entry.record.name} has no pod: there is no log") from None

    async def resize(self, launch: Launch, *, running: bool) -> None:
        """Give a stopped sandbox other limits. Raises `BadRequest`, `DriverError`."""
        entry, wanted = self._entry(launch.id), launch.resources
        if running:
            raise BadRequest("cpu, memory: stop the sandbox first: the kubernetes driver cannot resize what runs")
        if wanted is None:
            return
        if wanted.disk != entry.record.disk:
            raise BadRequest("disk: the kubernetes driver cannot change it")
        path = "/spec/podTemplate/spec/containers/0/resources"
        value = container_resources(self._templates.default, wanted)
        await self._cluster.patch(SANDBOX, entry.sandbox, [{"op": "add", "path": path, "value": value}])

    async def set_network(self, sandbox_id: str, network: Network) -> None:
        """Change where the sandbox's pod may connect to. Raises `BadRequest`, `DriverError`."""
        if network.domain_allow_list:
            raise BadRequest("domainAllowList: the kubernetes driver cannot do that")
        entry, egress = self._entry(sandbox_id), egress_of(network)
        if entry.kind is CLAIM:
            # The labels of its pod are the pool's: the claim's controller sees to that.
            if egress is None:
                return
            raise BadRequest("networkBlockAll, networkAllowList: only at creation for a sandbox from a warm pool")
        usual = self._templates.default.spec["podTemplate"].get("metadata", {}).get("labels", {}).get(EGRESS)
        if egress == LISTED:
            await self._allow(entry, network)
        labels = {"metadata": {"labels": {EGRESS: egress or usual}}}
        await self._cluster.patch(SANDBOX, entry.sandbox, {"spec": {"podTemplate": labels}})
        if egress != LISTED:
            await self._cluster.delete(NETWORK_POLICY, sandbox_name(sandbox_id))

    async def _allow(self, entry: Entry, network: Network) -> None:
        owner = {
            "apiVersion": entry.kind.api_version,
            "kind": entry.kind.name,
            "name": entry.metadata.name,
            "uid": entry.metadata.uid,
        }
        policy = allow_policy(entry.id, network.allow_list or "", owner)
        try:
            await self._cluster.create(NETWORK_POLICY, policy)
        except Conflict:
            await self._cluster.patch(NETWORK_POLICY, sandbox_name(entry.id), {"spec": policy["spec"]})

    async def pull(self, image: str, ref: str, log: Log) -> Image:
        """Find out whether sandboxes can be made of an image, by a pod. Raises `BuildFailed`, `DriverError`."""
        # Another replica may be at the same.
        name = digest_name("image", ref, self._leases.me)
        await check_image(self._cluster, self._templates.default, image, name, log, seconds=self._start_seconds)
        return Image(ref=image)

    async def make_volume(self, volume_id: str) -> None:
        """Make a claim. Raises `DriverError`."""
        said = self._templates.default.annotations
        spec: dict[str, Any] = {
            "accessModes": [said.get(_MODE, "ReadWriteMany")],
            "resources": {"requests": {"storage": said.get(_SIZE, "10Gi")}},
        }
        if _CLASS in said:
            spec["storageClassName"] = said[_CLASS]
        body = {"metadata": {"name": volume_name(volume_id), "labels": MANAGED}, "spec": spec}
        await self._cluster.create(VOLUME_CLAIM, body)

    async def remove_volume(self, volume_id: str) -> None:
        """Remove a claim and what is in it, once no pod has it any more."""
        await self._cluster.delete(VOLUME_CLAIM, volume_name(volume_id))

    def _entry(self, sandbox_id: str) -> Entry:
        entry = self._fleet.get(sandbox_id)
        if entry is None:
            raise DriverError("the sandbox's object was removed from the cluster")
        return entry

    def _has_ended(self, entry: Entry) -> bool:
        """Tell whether a sandbox that is started has not the pod any more that it was started in."""
        pod = self._fleet.pod(entry)
        return pod is None or pod.metadata.uid != entry.record.instance or has_ended(pod)

    def _changed(self, _: Entry | None, after: Entry | None) -> None:
        if after is not None and after.record.state is State.STARTED and self._leases.is_leader:
            self._look(after)

    def _look(self, entry: Entry) -> None:
        if entry.id not in self._looking and self._has_ended(entry):
            self._looking.add(entry.id)
            self._tasks.start(self._see(entry.id), f"end of {entry.id}")

    async def _look_at_all(self) -> None:
        """See what has ended while nobody led, or could not be seen to when it ended; for ever."""
        while True:
            for entry in self._fleet:
                if entry.record.state is State.STARTED:
                    self._look(entry)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _see(self, sandbox_id: str) -> None:
        """Tell who watches that a sandbox's pod has ended, if it truly has."""
        try:
            async with self._once(sandbox_id):
                entry = await self._fleet.fresh(sandbox_id)
                if entry is None or entry.record.state is not State.STARTED or not entry.sandbox:
                    return
                seen = self._fleet.pod(entry)
                pod = await self._cluster.get(POD, entry.sandbox)
                same = pod is not None and pod.metadata.uid == entry.record.instance
                if pod is not None and same and not has_ended(pod):
                    return
                reason = cause(pod if same else seen)
                # No other pod takes its place that knows nothing of it.
                await self._set_mode(entry, "Suspended")
                if self._death is not None:
                    self._death(sandbox_id, f"the sandbox has ended: {reason}")
        except ToolboxError as error:
            log.warning("a sandbox's end", extra={"fields": {"sandbox": sandbox_id, "why": error.message}})

    @asynccontextmanager
    async def _once(self, sandbox_id: str) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._looking.discard(sandbox_id)
