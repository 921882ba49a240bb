"""What a client wants of a new sandbox, checked and completed."""

import ipaddress
import re
import uuid
from datetime import UTC, datetime, timedelta

from controlplane.drivers.base import Resources
from controlplane.models import LANGUAGE_LABEL, LANGUAGES, CreateSandbox, Record
from controlplane.states import DESIRED, State
from toolbox.children.environment import check_variables
from toolbox.errors import BadRequest
from toolbox.web.middleware import timestamp

DEFAULT_TARGET = "local"
DEFAULT_AUTO_STOP = 15
DEFAULT_AUTO_ARCHIVE = 7 * 24 * 60
NEVER_DELETE = -1
_MAX_MINUTES = 100 * 365 * 24 * 60
_NAME = re.compile(r"[^\W_][\w.-]{0,127}\Z")
_DOMAIN = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?\Z")
_RESERVED = frozenset({"paginated", "for-runner", "regions"})
"""Words that stand where an id or name stands in a route."""


def new_record(wanted: CreateSandbox, resources: Resources, *, snapshot: str, user: str) -> Record:
    """Return the record of a sandbox about to be made. Raises `BadRequest` naming the field that is wrong."""
    now, sandbox_id = timestamp(), str(uuid.uuid4())
    env, labels = wanted.env or {}, wanted.labels or {}
    check_variables(env)
    check_labels(labels)
    check_networks(wanted.network_allow_list or "")
    check_domains(wanted.domain_allow_list or "")
    if wanted.queue_timeout is not None and wanted.queue_timeout < 1:
        raise BadRequest("queueTimeout: must be a positive number of minutes")
    auto_stop, auto_pause = _idle_intervals(wanted)
    return Record(
        id=sandbox_id,
        name=checked_name(wanted.name) if wanted.name else sandbox_id,
        state=State.CREATING,
        desired_state=DESIRED[State.CREATING],
        snapshot=snapshot,
        user=user,
        env=env,
        labels=labels,
        public=wanted.public or False,
        target=wanted.target or DEFAULT_TARGET,
        cpu=resources.cpu,
        memory=resources.memory,
        disk=resources.disk,
        auto_stop_interval=auto_stop,
        auto_pause_interval=auto_pause,
        auto_archive_interval=minutes("autoArchiveInterval", wanted.auto_archive_interval, DEFAULT_AUTO_ARCHIVE),
        auto_delete_interval=minutes("autoDeleteInterval", wanted.auto_delete_interval, NEVER_DELETE, least=-1),
        auto_destroy_at=destroy_time(now, minutes("ttlMinutes", wanted.ttl_minutes, 0)),
        queue_timeout=wanted.queue_timeout,
        created_at=now,
        updated_at=now,
        last_activity_at=now,
    )


def _idle_intervals(wanted: CreateSandbox) -> tuple[int, int]:
    """Return when an idle sandbox is stopped, and when it is paused: one of the two at most."""
    auto_pause = minutes("autoPauseInterval", wanted.auto_pause_interval)
    auto_stop = minutes("autoStopInterval", wanted.auto_stop_interval, 0 if auto_pause else DEFAULT_AUTO_STOP)
    if auto_pause and auto_stop:
        raise BadRequest("autoPauseInterval: an idle sandbox is either paused or stopped (autoStopInterval: 0)")
    if auto_pause and wanted.auto_delete_interval == 0:
        raise BadRequest("autoPauseInterval: an ephemeral sandbox (autoDeleteInterval: 0) cannot be paused")
    return auto_stop, auto_pause


def minutes(name: str, value: int | None, default: int = 0, *, least: int = 0) -> int:
    """Return an interval, checked. Raises `BadRequest`."""
    if value is None:
        return default
    if not least <= value <= _MAX_MINUTES:
        raise BadRequest(f"{name}: must be a number of minutes, at least {least}")
    return value


def destroy_time(created_at: str, ttl_minutes: int) -> str | None:
    """Return when a sandbox made at `created_at` is to go, None for never."""
    if ttl_minutes == 0:
        return None
    moment = datetime.fromisoformat(created_at) + timedelta(minutes=ttl_minutes)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def check_labels(labels: dict[str, str]) -> None:
    """Raise `BadRequest` for a language label that clients could not read back."""
    language = labels.get(LANGUAGE_LABEL)
    if language is not None and language not in LANGUAGES:
        raise BadRequest(f"labels: {LANGUAGE_LABEL} must be one of {', '.join(LANGUAGES)}")


def check_networks(text: str) -> None:
    """Raise `BadRequest` for what is no list of networks."""
    for each in filter(None, (part.strip() for part in text.split(","))):
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError:
            raise BadRequest(f"networkAllowList: not a network (CIDR): {each!r}") from None


def check_domains(text: str) -> None:
    """Raise `BadRequest` for what is no list of domains."""
    for each in filter(None, (part.strip() for part in text.split(","))):
        if not _DOMAIN.match(each):
            raise BadRequest(f"domainAllowList: not a domain: {each!r}")


def checked_name(name: str) -> str:
    """Return a name that can stand in a route. Raises `BadRequest`."""
    if not _NAME.match(name) or name in _RESERVED:
        raise BadRequest("name: letters, digits, '.', '_' and '-' only, at most 128, beginning with a letter or digit")
    return name
