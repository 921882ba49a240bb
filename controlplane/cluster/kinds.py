"""The kinds of objects that we read and write, and of each the fields that we look at."""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from controlplane.drivers.base import DriverError


class ClusterError(DriverError):
    """The cluster could not do what it should be able to do."""

    code = "CLUSTER_ERROR"


class _Wire(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Part of an object; what it does not name is passed over."""


class Owner(_Wire, frozen=True):
    """What an object belongs to."""

    kind: str
    name: str
    uid: str


class Metadata(_Wire, frozen=True):
    """What every object has; of a watch's bookmark there is but the version. Times are RFC 3339."""

    name: str = ""
    uid: str = ""
    resource_version: str = "0"
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[Owner] = []


class Condition(_Wire, frozen=True):
    """What a controller says of an object."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class Mode(_Wire, frozen=True):
    """The part of a sandbox's spec that says whether it is to run."""

    operating_mode: str = "Running"


class SandboxStatus(_Wire, frozen=True):
    """What the controller says of a sandbox."""

    conditions: list[Condition] = []
    pod_ips: list[str] = msgspec.field(default_factory=list, name="podIPs")


class Sandbox(_Wire, frozen=True):
    """`agents.x-k8s.io` Sandbox."""

    metadata: Metadata
    spec: Mode = Mode()
    status: SandboxStatus = SandboxStatus()


class BoundSandbox(_Wire, frozen=True):
    """The sandbox that a claim got."""

    name: str = ""
    pod_ips: list[str] = msgspec.field(default_factory=list, name="podIPs")


class ClaimStatus(_Wire, frozen=True):
    """What the controller says of a claim."""

    conditions: list[Condition] = []
    sandbox: BoundSandbox = BoundSandbox()


class Claim(_Wire, frozen=True):
    """`extensions.agents.x-k8s.io` SandboxClaim."""

    metadata: Metadata
    status: ClaimStatus = ClaimStatus()


class Template(_Wire, frozen=True):
    """`extensions.agents.x-k8s.io` SandboxTemplate."""

    metadata: Metadata
    spec: dict[str, Any] = {}


class PoolSpec(_Wire, frozen=True):
    """How many sandboxes of which template."""

    replicas: int = 1
    sandbox_template_ref: dict[str, str] = {}


class PoolStatus(_Wire, frozen=True):
    """How many there are."""

    replicas: int = 0
    ready_replicas: int = 0


class Pool(_Wire, frozen=True):
    """`extensions.agents.x-k8s.io` SandboxWarmPool."""

    metadata: Metadata
    spec: PoolSpec = PoolSpec()
    status: PoolStatus = PoolStatus()


class ContainerStatus(_Wire, frozen=True):
    """What a kubelet says of a container: its state is `{waiting|running|terminated: {reason, message, exitCode}}`."""

    name: str = ""
    state: dict[str, dict[str, Any]] = {}


class PodStatus(_Wire, frozen=True):
    """What a kubelet says of a pod."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    reason: str = ""
    message: str = ""
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []


class Pod(_Wire, frozen=True):
    """A pod."""

    metadata: Metadata
    status: PodStatus = PodStatus()


class Held(_Wire, frozen=True):
    """An object that holds a document: a ConfigMap or a Secret, whose values are base64."""

    metadata: Metadata
    data: dict[str, str] = {}


class LeaseSpec(_Wire, frozen=True):
    """Who holds a lease and when they last said so."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    renew_time: str = ""


class Lease(_Wire, frozen=True):
    """A lease."""

    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()


class Anything(_Wire, frozen=True):
    """An object of which only the metadata matters."""

    metadata: Metadata


class Object(Protocol):
    """What all objects have."""

    @property
    def metadata(self) -> Metadata:
        """Its metadata."""


O = TypeVar("O", bound=Object)  # noqa: E741 -- an object


class ListMetadata(_Wire, frozen=True):
    """Where a list is."""

    resource_version: str = "0"
    continue_: str = msgspec.field(default="", name="continue")


class Items(msgspec.Struct, Generic[O]):
    """A list of objects, or the first part of it."""

    metadata: ListMetadata
    items: list[O]


@dataclass(frozen=True)
class Kind(Generic[O]):
    """A kind of objects: where the API server has them, and what they are read as."""

    api_version: str
    name: str
    plural: str
    type: type[O]

    def path(self, namespace: str, name: str = "") -> str:
        """Return the path of all objects in a namespace, or of one."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        return f"{root}{self.api_version}/namespaces/{namespace}/{self.plural}{f'/{name}' if name else ''}"

    def decode(self, data: bytes | msgspec.Raw) -> O:
        """Read an object. Raises `ClusterError`."""
        try:
            return msgspec.json.decode(data, type=self.type)
        except msgspec.DecodeError as error:
            raise ClusterError(f"an object of {self.plural} cannot be read: {error}") from None

    def decode_list(self, data: bytes) -> "Items[O]":
        """Read a list of objects. Raises `ClusterError`."""
        try:
            return msgspec.json.decode(data, type=Items[self.type])  # type: ignore[name-defined]
        except msgspec.DecodeError as error:
            raise ClusterError(f"the list of {self.plural} cannot be read: {error}") from None


_AGENTS, _EXTENSIONS = "agents.x-k8s.io/v1beta1", "extensions.agents.x-k8s.io/v1beta1"
SANDBOX = Kind(_AGENTS, "Sandbox", "sandboxes", Sandbox)
CLAIM = Kind(_EXTENSIONS, "SandboxClaim", "sandboxclaims", Claim)
TEMPLATE = Kind(_EXTENSIONS, "SandboxTemplate", "sandboxtemplates", Template)
POOL = Kind(_EXTENSIONS, "SandboxWarmPool", "sandboxwarmpools", Pool)
POD = Kind("v1", "Pod", "pods", Pod)
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps", Held)
SECRET = Kind("v1", "Secret", "secrets", Held)
VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", Anything)
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", Anything)
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases", Lease)
