"""What running sandboxes may use and reach: their secrets, their network."""

from typing import Any

import msgspec

from controlplane.drivers.base import Ability, Network
from controlplane.egress.proxy import Egress
from controlplane.models import Record
from controlplane.sandboxes import Sandboxes
from controlplane.secrets import Secrets
from controlplane.states import State
from controlplane.upstreams import Upstreams
from controlplane.wishes import check_domains, check_networks
from toolbox.errors import Conflict
from toolbox.web.middleware import timestamp

_AT_REST = frozenset({State.STOPPED, State.ARCHIVED, State.ERROR})


class Outlets:
    """Changes the secrets and the network of sandboxes."""

    def __init__(self, sandboxes: Sandboxes, secrets: Secrets, egress: Egress, upstreams: Upstreams) -> None:
        self._sandboxes = sandboxes
        self._steps = sandboxes.steps
        self._driver = sandboxes.driver
        self._secrets = secrets
        self._egress = egress
        self._upstreams = upstreams

    async def set_secrets(self, id_or_name: str, wanted: list[dict[str, str]]) -> Record:
        """Replace the secrets of a sandbox. Raises `NotFound`, `BadRequest`, `Conflict`, `DriverError`."""

        async def step(record: Record) -> Record:
            self._check_settled(record)
            secrets = await self._egress.check(wanted, record.env, proxy=record.outbound_proxy_url)
            gone = {name for each in record.secrets for name in each} - {name for each in secrets for name in each}
            # First the record: what is taken away is so even if the sandbox does not answer.
            changed = await self._save(record, secrets=secrets)
            upstream = self._upstreams.get(record.id) if record.state is State.STARTED else None
            if upstream is not None:
                variables = await self._egress.variables(changed)
                if variables or gone:
                    await upstream.set_environment(variables, unset=sorted(gone))
            return changed

        return await self._steps.run(id_or_name, step, "secrets of")

    async def set_network(
        self, id_or_name: str, *, block_all: bool | None, allow_list: str | None, domain_allow_list: str | None
    ) -> Record:
        """Change where a sandbox may connect to; None stays. Raises `NotFound`, `BadRequest`, `DriverError`."""
        check_networks(allow_list or "")
        check_domains(domain_allow_list or "")

        async def step(record: Record) -> Record:
            if Ability.NETWORK not in self._driver.abilities:
                raise self._driver.cannot("limit the network (networkBlockAll, networkAllowList, domainAllowList)")
            self._check_settled(record)
            network = Network(
                block_all=record.network_block_all if block_all is None else block_all,
                allow_list=record.network_allow_list if allow_list is None else allow_list or None,
                domain_allow_list=record.domain_allow_list if domain_allow_list is None else domain_allow_list or None,
                proxy=record.outbound_proxy_url,
            )
            if record.state is State.STARTED:
                await self._driver.set_network(record.id, network)
            return await self._save(
                record,
                network_block_all=network.block_all,
                network_allow_list=network.allow_list,
                domain_allow_list=network.domain_allow_list,
            )

        return await self._steps.run(id_or_name, step, "network of")

    async def _save(self, record: Record, **changes: Any) -> Record:
        return await self._steps.store.save(msgspec.structs.replace(record, updated_at=timestamp(), **changes))

    @staticmethod
    def _check_settled(record: Record) -> None:
        if record.state is not State.STARTED and record.state not in _AT_REST:
            raise Conflict(f"sandbox {record.name} is {record.state}: it must be started or stopped")
