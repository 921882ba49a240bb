"""What is asked of the cluster for a sandbox: its Sandbox or claim, its network policy."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from controlplane.cluster.api import copied, merge
from controlplane.cluster.names import EGRESS, MANAGED, SANDBOX_ID, WORKLOAD, sandbox_name, volume_name
from controlplane.drivers.base import Launch, Mount, Network, Resources
from controlplane.drivers.kubernetes.templates import HOME, Blueprint

CLOSED, LISTED = "closed", "listed"
"""Values of the label `egress`: nothing is reached; what a policy of its own lists is. Others are the template's."""
_SPEC = ("podTemplate", "volumeClaimTemplates", "service")
_BUNDLE, _DAEMON = "/opt/sandbox-toolbox", "/toolbox"
"""Where the daemon is in its own image, and where it is brought to in others."""
_DNS = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]


def sandbox_spec(blueprint: Blueprint, launch: Launch) -> dict[str, Any]:
    """Return the spec of a Sandbox of its own: the template's, changed to what is wanted."""
    spec: dict[str, Any] = copied({name: blueprint.spec[name] for name in _SPEC if name in blueprint.spec})
    pod = spec["podTemplate"]
    labels = pod.setdefault("metadata", {}).setdefault("labels", {})
    labels |= {**MANAGED, WORKLOAD: "sandbox", SANDBOX_ID: launch.id}
    egress = egress_of(launch.network)
    if egress is not None:
        labels[EGRESS] = egress
    pod_spec = pod["spec"]
    # As the controller sees to where it makes a sandbox of a template itself.
    pod_spec.setdefault("automountServiceAccountToken", False)
    container = pod_spec["containers"][0]
    if launch.image is not None:
        set_image(pod_spec, blueprint, launch.image.ref)
    if launch.resources is not None:
        _set_resources(spec, container, launch.resources, blueprint)
    if launch.user is not None and launch.user.isdigit():
        container.setdefault("securityContext", {})["runAsUser"] = int(launch.user)
    if launch.otel_endpoint is not None:
        _set_variable(container, "OTEL_EXPORTER_OTLP_ENDPOINT", launch.otel_endpoint)
    if launch.entrypoint:
        container["args"] = [*(container.get("args") or ["serve"]), "--", *launch.entrypoint]
    _mount(pod_spec, container, launch.mounts)
    return {**spec, "operatingMode": "Running"}


def set_image(pod_spec: dict[str, Any], blueprint: Blueprint, image: str) -> None:
    """Let a pod be of another image than its template's; one that need not have the daemon gets it from another."""
    container = pod_spec["containers"][0]
    container["image"] = image
    daemon = blueprint.daemon_image
    if daemon is None or image == blueprint.image:
        return
    place = {"name": "toolbox-daemon", "mountPath": _DAEMON}
    copier = {
        "name": place["name"],
        "image": daemon,
        "command": [f"{_BUNDLE}/bin/toolboxd", "install", f"{_DAEMON}/bundle"],
        "volumeMounts": [place],
    }
    for field in ("imagePullPolicy", "securityContext", "resources"):
        if field in container:
            copier[field] = container[field]
    pod_spec.setdefault("initContainers", []).append(copier)
    pod_spec.setdefault("volumes", []).append({"name": place["name"], "emptyDir": {}})
    container.setdefault("volumeMounts", []).append({**place, "readOnly": True})
    container["command"] = [f"{_DAEMON}/bundle/bin/toolboxd"]
    container.setdefault("args", ["serve"])


def container_resources(blueprint: Blueprint, wanted: Resources) -> dict[str, Any]:
    """Return the limits of a sandbox's container. It is promised all its memory, and a tenth of its processors.

    What the template says of other things than these two stays.
    """
    memory = f"{wanted.memory}Gi"
    return merge(
        blueprint.spec["podTemplate"]["spec"]["containers"][0].get("resources") or {},
        {
            "limits": {"cpu": str(wanted.cpu), "memory": memory},
            "requests": {"cpu": f"{wanted.cpu * 100}m", "memory": memory},
        },
    )


def _set_resources(spec: dict[str, Any], container: dict[str, Any], wanted: Resources, blueprint: Blueprint) -> None:
    usual = blueprint.resources
    if (wanted.cpu, wanted.memory) != (usual.cpu, usual.memory):
        container["resources"] = container_resources(blueprint, wanted)
    if wanted.disk != usual.disk:
        for each in spec.get("volumeClaimTemplates") or []:
            if each.get("metadata", {}).get("name") == HOME:
                each["spec"]["resources"] = {"requests": {"storage": f"{wanted.disk}Gi"}}


def _set_variable(container: dict[str, Any], name: str, value: str) -> None:
    others = [each for each in container.get("env") or [] if each.get("name") != name]
    container["env"] = [*others, {"name": name, "value": value}]


def _mount(pod_spec: dict[str, Any], container: dict[str, Any], mounts: Sequence[Mount]) -> None:
    volumes, places = pod_spec.setdefault("volumes", []), container.setdefault("volumeMounts", [])
    for volume_id in dict.fromkeys(each.volume_id for each in mounts):
        name = volume_name(volume_id)
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": name}})
    for each in mounts:
        place = {"name": volume_name(each.volume_id), "mountPath": each.path}
        places.append({**place, "subPath": each.subpath} if each.subpath else place)


def egress_of(network: Network) -> str | None:
    """Return the value of the label `egress` that a network asks for, None for the template's."""
    if network.block_all:
        return CLOSED
    return LISTED if network.allow_list else None


def allow_policy(sandbox_id: str, allow_list: str, owner: dict[str, Any]) -> dict[str, Any]:
    """Return the policy that lets one sandbox reach what is listed, and name servers."""
    networks = [each.strip() for each in allow_list.split(",") if each.strip()]
    blocks = [{"ipBlock": {"cidr": str(ip_network(each, strict=False))}} for each in networks]
    return {
        "metadata": {
            "name": sandbox_name(sandbox_id),
            "labels": {**MANAGED, SANDBOX_ID: sandbox_id},
            "ownerReferences": [owner],
        },
        "spec": {
            "podSelector": {"matchLabels": {SANDBOX_ID: sandbox_id}},
            "policyTypes": ["Egress"],
            "egress": [{"to": blocks}, {"ports": _DNS}],
        },
    }
