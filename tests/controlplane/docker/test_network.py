"""The network of containers, taken away and given back."""

import pytest

from controlplane.drivers.base import Network
from tests.controlplane.docker.conftest import Driven
from toolbox.errors import BadRequest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
SHOW = "ls /sys/class/net"


async def test_taken_away_and_given_back(driven: Driven) -> None:
    access = await driven.start("one")
    assert "eth0" in await driven.execute(access, SHOW)
    await driven.driver.set_network("one", Network(block_all=True))
    await driven.driver.set_network("one", Network(block_all=True))
    assert await driven.execute(access, SHOW) == "lo"
    await driven.driver.set_network("one", Network())
    assert "eth0" in await driven.execute(access, SHOW)


async def test_changed_while_stopped(driven: Driven) -> None:
    blocked = Network(block_all=True)
    await driven.start("one")
    await driven.driver.stop("one", force=False)
    await driven.driver.set_network("one", blocked)
    access = await driven.driver.start(driven.launch("one", network=blocked))
    assert await driven.execute(access, SHOW) == "lo"
    await driven.driver.stop("one", force=False)
    assert "eth0" in await driven.execute(await driven.driver.start(driven.launch("one")), SHOW)


@pytest.mark.parametrize("network", [Network(allow_list="10.0.0.0/8"), Network(domain_allow_list="example.org")])
async def test_lists_are_refused(driven: Driven, network: Network) -> None:
    await driven.start("one")
    with pytest.raises(BadRequest, match="llowList"):
        await driven.driver.set_network("one", network)
