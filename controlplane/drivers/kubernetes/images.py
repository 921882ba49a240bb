"""Whether sandboxes can be made of an image: a pod of it is made, and has to become ready."""

import asyncio
from contextlib import aclosing
from typing import Any

from controlplane.cluster.api import Cluster, copied
from controlplane.cluster.kinds import POD, Condition, Pod
from controlplane.cluster.names import DOCUMENT_ID, MANAGED, WORKLOAD
from controlplane.drivers.base import BuildFailed, Log
from controlplane.drivers.kubernetes.manifests import set_image
from controlplane.drivers.kubernetes.reasons import hopeless_pod, pod_waits_for
from controlplane.drivers.kubernetes.templates import Blueprint


async def check_image(
    cluster: Cluster, blueprint: Blueprint, image: str, name: str, log: Log, *, seconds: float
) -> None:
    """Return once a pod `name` of the image was ready; the node has the image then.

    Raises `BuildFailed`, `ToolboxError`.
    """
    selector = f"{DOCUMENT_ID}={name}"
    log(f"pulling {image}\n".encode())
    made = await cluster.create(POD, _pod(blueprint, image, name, seconds))
    pod: Pod | None = made
    try:
        async with asyncio.timeout(seconds):
            version = made.metadata.resource_version
            async with aclosing(cluster.watch(POD, selector, version)) as events:
                async for type_, found in events:
                    if type_ == "BOOKMARK":
                        continue
                    pod = found
                    if type_ == "DELETED":
                        raise BuildFailed("the pod that was to show the image was removed")
                    if _is_ready(found.status.conditions):
                        log(b"a sandbox of it is ready\n")
                        return
                    if (problem := hopeless_pod(found)) is not None:
                        raise BuildFailed(f"no sandbox can be made of {image}: {problem}")
            raise BuildFailed("the cluster stopped telling of the pod that was to show the image")
    except TimeoutError:
        raise BuildFailed(f"no sandbox of {image} was ready within {seconds:.0f} s: {pod_waits_for(pod)}") from None
    finally:
        await asyncio.shield(cluster.delete(POD, name, grace_seconds=0))


def _is_ready(conditions: list[Condition]) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in conditions)


def _pod(blueprint: Blueprint, image: str, name: str, seconds: float) -> dict[str, Any]:
    template: dict[str, Any] = copied(blueprint.spec["podTemplate"])
    spec = template["spec"]
    spec.setdefault("automountServiceAccountToken", False)
    spec["restartPolicy"] = "Never"
    # Whoever made it may die before.
    spec["activeDeadlineSeconds"] = int(seconds) + 1
    set_image(spec, blueprint, image)
    # What it keeps is of no use.
    claims = [each["metadata"]["name"] for each in blueprint.spec.get("volumeClaimTemplates") or []]
    others = [each for each in spec.get("volumes") or [] if each["name"] not in claims]
    spec["volumes"] = [*others, *({"name": each, "emptyDir": {}} for each in claims)]
    labels = template.get("metadata", {}).get("labels", {})
    return {
        "metadata": {"name": name, "labels": {**labels, **MANAGED, WORKLOAD: "sandbox", DOCUMENT_ID: name}},
        "spec": spec,
    }
