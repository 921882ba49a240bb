"""Why a sandbox is not ready, or is no more, in words for who asked for it."""

from typing import Any

from controlplane.cluster.fleet import Entry
from controlplane.cluster.kinds import Condition, Pod

_HOPELESS = frozenset(
    {
        *("ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
"""What a kubelet waits for in vain, or for too long for who waits for the sandbox."""
_REFUSED = ("exceeded quota", "forbidden", "is invalid", "denied")


def hopeless(entry: Entry, pod: Pod | None) -> str | None:
    """Return why a sandbox that is being started will not come up, None if it may."""
    if entry.reason in ("TemplateNotFound", "WarmPoolNotFound", "MultiplePods"):
        return entry.message
    if entry.reason == "ReconcilerError" and any(each in entry.message for each in _REFUSED):
        return entry.message.removeprefix("Error seen: ")
    return hopeless_pod(pod) if pod is not None else None


def hopeless_pod(pod: Pod) -> str | None:
    """Return why a pod will not become ready, None if it may."""
    if pod.status.phase in ("Failed", "Succeeded"):
        return cause(pod)
    for waiting in _waiting(pod):
        if waiting.get("reason") in _HOPELESS:
            return _said(waiting)
    return None


def why_not_ready(entry: Entry, pod: Pod | None) -> str:
    """Return what a sandbox waits for."""
    return pod_waits_for(pod) if pod is not None else entry.message or "its pod was not made"


def pod_waits_for(pod: Pod | None) -> str:
    """Return what a pod waits for."""
    if pod is None:
        return "its pod was not made"
    scheduled = next((each for each in pod.status.conditions if each.type == "PodScheduled"), None)
    if scheduled is not None and scheduled.status != "True":
        return f"no node takes its pod: {scheduled.message}" if scheduled.message else "no node has taken its pod"
    for waiting in _waiting(pod):
        return _said(waiting)
    return "its daemon does not say that it is ready"


def has_ended(pod: Pod) -> bool:
    """Tell whether a pod does not run any more, or is about to end."""
    return pod.metadata.deletion_timestamp is not None or pod.status.phase in ("Failed", "Succeeded")


def cause(pod: Pod | None) -> str:
    """Return why a pod has ended."""
    if pod is None:
        return "its pod was removed"
    if pod.status.reason:  # Evicted, NodeLost, Preempting
        return f"its pod was ended: {pod.status.reason}: {pod.status.message}"
    disrupted = _true(pod.status.conditions, "DisruptionTarget")
    if disrupted is not None:
        return f"its pod was ended: {disrupted.message or disrupted.reason}"
    for each in pod.status.container_statuses:
        ended = each.state.get("terminated")
        if ended is not None:
            if ended.get("reason") == "OOMKilled":
                return "out of memory"
            return f"its daemon ended: exit code {ended.get('exitCode')}"
    return "its pod was removed" if pod.metadata.deletion_timestamp else f"its pod has {pod.status.phase.lower()}"


def _waiting(pod: Pod) -> list[dict[str, Any]]:
    statuses = [*pod.status.init_container_statuses, *pod.status.container_statuses]
    return [each.state["waiting"] for each in statuses if "waiting" in each.state]


def _said(state: dict[str, Any]) -> str:
    reason, message = state.get("reason") or "waiting", state.get("message")
    return f"{reason}: {message}" if message else str(reason)


def _true(conditions: list[Condition], type_: str) -> Condition | None:
    return next((each for each in conditions if each.type == type_ and each.status == "True"), None)
