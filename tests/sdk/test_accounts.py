"""Events, warm pools and metrics by the published Python SDKs, sync and async."""

import asyncio
import time
from typing import Any

import pytest
from daytona import CreateSandboxFromSnapshotParams

from tests.sdk.clients import Sdk, scenario


async def pause(sdk: Sdk) -> None:
    """Give other threads and tasks a moment."""
    if sdk.is_async:
        await asyncio.sleep(0.01)
    else:
        time.sleep(0.01)


async def until(sdk: Sdk, condition: Any) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline
        await pause(sdk)


@scenario
async def test_what_others_do_shows_without_a_question(sdk: Sdk) -> None:
    mine = await sdk.daytona.create(CreateSandboxFromSnapshotParams(name=f"followed-{sdk.name}"))
    others = await sdk.daytona.get(mine.id)

    async def connected() -> bool:
        return bool(sdk.daytona.wrapped._event_dispatcher.is_connected)

    async def stopped() -> bool:
        return str(mine.state.value if hasattr(mine.state, "value") else mine.state) == "stopped"

    await until(sdk, connected)
    await others.stop()
    await until(sdk, stopped)
    await mine.delete(wait=True)


@scenario
async def test_warm_pools(sdk: Sdk) -> None:
    pools = sdk.daytona.warm_pool.wrapped if hasattr(sdk.daytona.warm_pool, "wrapped") else sdk.daytona.warm_pool

    async def call(name: str, *args: Any, **options: Any) -> Any:
        found = getattr(pools, name)(*args, **options)
        return await found if sdk.is_async else found

    made = await call("create", "default", pool=1)

    async def filled() -> bool:
        [pool] = await call("list")
        return bool(pool.current_size == 1)

    try:
        with pytest.raises(Exception, match="already"):
            await call("create", "default", pool=1)
        await until(sdk, filled)
        sandbox = await sdk.daytona.create(CreateSandboxFromSnapshotParams(name=f"warm-{sdk.name}"))
        assert (await sandbox.process.exec("echo warm")).result == "warm\n"
        assert sandbox.warm_pool_id is None
        await sandbox.delete(wait=True)
        assert (await call("update", made.id, pool=2)).pool == 2
    finally:
        await call("delete", made.id)
    assert await call("list") == []


@scenario
async def test_metrics(sdk: Sdk) -> None:
    sandbox = await sdk.daytona.create()
    [*_, latest] = await sandbox.get_metrics()
    assert latest.cpu_count >= 1
    assert latest.mem_total > latest.mem_used > 0
    assert (await sandbox.get_metrics_latest()).cpu_count == latest.cpu_count
    await sandbox.delete(wait=True)
