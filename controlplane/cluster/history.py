"""The two logs in a cluster: they go where the cluster's logs and metrics go, and are read there."""

import logging
from collections.abc import Iterable

import msgspec

from controlplane.history import Entry, Sample, Wanted
from toolbox.errors import BadRequest

log = logging.getLogger("audit")


class ClusterHistory:
    """Writes the audit log as log lines of the control plane; keeps nothing."""

    async def add_entry(self, entry: Entry) -> None:
        """Write an entry of the audit log."""
        fields = {name: value for name, value in msgspec.structs.asdict(entry).items() if value not in (None, "")}
        log.info("audit", extra={"fields": fields})

    async def entries(self, wanted: Wanted, *, limit: int, offset: int) -> tuple[list[tuple[int, Entry]], int]:
        """Refuse. Raises `BadRequest`."""
        del wanted, limit, offset
        raise _elsewhere("the audit log is in the logs of the control plane's pods")

    async def add_samples(self, samples: Iterable[Sample]) -> None:
        """Keep nothing: daemons export their metrics themselves."""

    async def samples(self, sandbox_id: str, since: str, until: str) -> list[Sample]:
        """Refuse. Raises `BadRequest`."""
        del sandbox_id, since, until
        raise _elsewhere("metrics of sandboxes are exported by OTLP, where a collector is configured")

    async def cut(self, *, entries_before: str, samples_before: str) -> None:
        """Do nothing: nothing is kept."""


def _elsewhere(where: str) -> BadRequest:
    return BadRequest(f"in a cluster, {where}", code="NOT_SUPPORTED_BY_DRIVER")
