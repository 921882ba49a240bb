"""What the published Python SDKs, sync and async, know of sandboxes themselves, against a real server."""

from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from daytona import (
    AsyncDaytona,
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    Daytona,
    DaytonaAuthenticationError,
    DaytonaBadRequestError,
    DaytonaConfig,
    DaytonaConflictError,
    DaytonaError,
    DaytonaNotFoundError,
    DaytonaProcessExecutionTimeoutError,
    DaytonaValidationError,
    ListSandboxesQuery,
    Resources,
    SandboxState,
    VolumeMount,
)
from daytona_api_client import SandboxListSortDirection, SandboxListSortField

from tests.sdk.clients import Either, Sdk, items, scenario
from tests.sdk.conftest import Server

Make = Callable[..., Coroutine[Any, Any, Any]]
PYTHON = {"code-toolbox-language": "python"}


@pytest.fixture
def make(sdk: Sdk) -> Iterator[Make]:
    """Return a function that makes a sandbox which is gone with the test."""
    made: list[Any] = []

    async def create(**params: Any) -> Any:
        made.append(await sdk.daytona.create(CreateSandboxFromSnapshotParams(**params)))
        return made[-1]

    async def delete_all() -> None:
        for sandbox in made:
            try:
                await sandbox.delete(wait=True)
            except DaytonaNotFoundError:
                continue

    yield create
    sdk.run(delete_all())


async def ids(sdk: Sdk, **query: Any) -> list[str]:
    """Return the ids that a list gives."""
    return [found.id async for found in items(await _list(sdk, **query))]


async def _list(sdk: Sdk, **query: Any) -> Any:
    return await sdk.daytona.list(ListSandboxesQuery(**query))


# Create


@scenario
async def test_create_with_defaults(sdk: Sdk, make: Make) -> None:
    before = datetime.now(UTC)
    sandbox = await make()
    assert (sandbox.state, sandbox.desired_state, sandbox.error_reason) == ("started", "started", None)
    assert sandbox.name == sandbox.id
    assert (sandbox.env, sandbox.labels, sandbox.public) == ({}, PYTHON, False)
    assert (sandbox.auto_stop_interval, sandbox.auto_pause_interval, sandbox.auto_delete_interval) == (15, 0, -1)
    assert sandbox.auto_archive_interval == 7 * 24 * 60
    assert (sandbox.auto_destroy_at, sandbox.snapshot, sandbox.target) == (None, "default", "local")
    assert min(sandbox.cpu, sandbox.memory, sandbox.disk) > 0
    assert (sandbox.gpu, sandbox.spot, sandbox.kvm, sandbox.network_block_all) == (0, False, False, False)
    assert sandbox.daemon_version
    assert sandbox.toolbox_proxy_url.endswith("/toolbox")
    for moment in (sandbox.created_at, sandbox.updated_at, sandbox.last_activity_at):
        assert before - timedelta(seconds=1) <= datetime.fromisoformat(moment) <= datetime.now(UTC)


@scenario
async def test_create_with_everything(sdk: Sdk, make: Make) -> None:
    sandbox = await make(
        name=f"everything-{sdk.name}",
        language="typescript",
        env_vars={"A": "it's ü", "EMPTY": ""},
        labels={"team": "x"},
        public=True,
        auto_stop_interval=0,
        auto_archive_interval=60,
        auto_delete_interval=120,
        ttl_minutes=30,
        queue_timeout=5,
        snapshot="default",
        target="elsewhere",
    )
    assert sandbox.name == f"everything-{sdk.name}"
    assert sandbox.labels == {"team": "x", "code-toolbox-language": "typescript"}
    assert (sandbox.public, sandbox.target, sandbox.queue_timeout) == (True, "elsewhere", 5)
    assert (sandbox.auto_stop_interval, sandbox.auto_archive_interval, sandbox.auto_delete_interval) == (0, 60, 120)
    lifetime = datetime.fromisoformat(sandbox.auto_destroy_at) - datetime.fromisoformat(sandbox.created_at)
    assert lifetime == timedelta(minutes=30)
    assert (await sandbox.process.exec('echo "$A,${EMPTY-unset}"')).result == "it's ü,\n"


@scenario
async def test_ephemeral(sdk: Sdk, make: Make) -> None:
    assert (await make(ephemeral=True)).auto_delete_interval == 0


REFUSED: list[dict[str, Any]] = [
    {"name": "not a name"},
    {"os_user": "nobody-here"},
    {"env_vars": {"1A": ""}},
    {"volumes": [VolumeMount(volume_id="v", mount_path="/usr")]},
    {"secrets": {"TOKEN": "secret"}},
    {"network_block_all": True},
    {"network_allow_list": "10.0.0.0/8"},
    {"domain_allow_list": "example.com"},
    {"outbound_proxy_url": "http://127.0.0.1:1"},
    {"otel_endpoint_override": "collector:4318"},
    {"kvm": True},
    {"spot": True},
    {"linked_sandbox": "other"},
]


@pytest.mark.parametrize("params", REFUSED, ids="-".join)
@scenario
async def test_what_cannot_be_had_is_refused(sdk: Sdk, make: Make, params: dict[str, Any]) -> None:
    before = await ids(sdk)
    with pytest.raises(DaytonaBadRequestError, match=r"^Failed to create sandbox: ") as caught:
        await make(**params)
    assert (caught.value.status_code, caught.value.code) == (400, "BAD_REQUEST")
    assert await ids(sdk) == before


@scenario
async def test_images_are_refused(sdk: Sdk) -> None:
    for params in (
        CreateSandboxFromImageParams(image="debian:12"),
        CreateSandboxFromImageParams(image="debian:12", resources=Resources(cpu=2, memory=4, disk=8)),
    ):
        with pytest.raises(DaytonaBadRequestError, match="buildInfo"):
            await sdk.daytona.create(params)


@scenario
async def test_what_the_sdk_itself_refuses(sdk: Sdk, make: Make) -> None:
    for wrong in ({"auto_stop_interval": -1}, {"auto_archive_interval": -1}, {"ttl_minutes": -1}, {"queue_timeout": 0}):
        with pytest.raises(DaytonaValidationError):
            await make(**wrong)
    with pytest.raises(DaytonaValidationError):
        await sdk.daytona.get("")
    with pytest.raises(DaytonaError):
        await sdk.daytona.create(timeout=-1)


@scenario
async def test_a_name_is_taken_once(sdk: Sdk, make: Make) -> None:
    name = f"taken-{sdk.name}"
    first = await make(name=name)
    with pytest.raises(DaytonaConflictError, match=name) as caught:
        await make(name=name)
    assert (caught.value.status_code, caught.value.code) == (409, "CONFLICT")
    await first.delete(wait=True)
    assert (await make(name=name)).id != first.id


# Get and list


@scenario
async def test_get(sdk: Sdk, make: Make) -> None:
    made = await make(name=f"got-{sdk.name}", env_vars={"A": "b"})
    for found in (await sdk.daytona.get(made.id), await sdk.daytona.get(made.name, request_timeout=30)):
        assert (found.id, found.name, found.env) == (made.id, made.name, {"A": "b"})
        assert (await found.process.exec("echo $A")).result == "b\n"
    for missing in ("no-such-sandbox", "00000000-0000-0000-0000-000000000000", "with space/and slash"):
        with pytest.raises(DaytonaNotFoundError) as caught:
            await sdk.daytona.get(missing)
        assert caught.value.status_code == 404


@scenario
async def test_list(sdk: Sdk, make: Make) -> None:
    label = {"listed": sdk.name}
    made = [await make(name=f"listed-{sdk.name}-{index}", labels=label | {"odd": str(index % 2)}) for index in range(3)]
    first, second, third = (sandbox.id for sandbox in made)
    newest = {"sort": SandboxListSortField.CREATEDAT, "order": SandboxListSortDirection.DESC}
    for limit in (1, 2, 3, 100, None):
        assert await ids(sdk, labels=label, limit=limit, **newest) == [third, second, first]
    by_name = {"sort": SandboxListSortField.NAME, "order": SandboxListSortDirection.ASC, "limit": 2}
    assert await ids(sdk, labels=label, **by_name) == [first, second, third]
    assert await ids(sdk, labels=label | {"odd": "1"}) == [second]
    assert await ids(sdk, labels={"listed": "nobody"}) == []
    assert await ids(sdk, name=f"LISTED-{sdk.name}-2") == [third]
    assert await ids(sdk, id=first[:13]) == [first]
    assert {first, second, third} <= set(await ids(sdk))
    await made[0].stop()
    assert await ids(sdk, labels=label, states=[SandboxState.STOPPED]) == [first]
    both = [SandboxState.STOPPED, SandboxState.STARTED]
    assert set(await ids(sdk, labels=label, states=both)) == {first, second, third}
    moment = datetime.fromisoformat(made[1].created_at)
    assert set(await ids(sdk, labels=label, created_at_after=moment)) <= {second, third}
    assert set(await ids(sdk, labels=label, created_at_before=moment)) <= {first, second}
    assert await ids(sdk, labels=label, targets=["elsewhere"]) == []
    assert await ids(sdk, labels=label, is_public=True) == []
    with pytest.raises(DaytonaValidationError):
        await ids(sdk, limit=0)


@scenario
async def test_listed_sandboxes_can_be_used(sdk: Sdk, make: Make) -> None:
    await make(name=f"used-{sdk.name}", env_vars={"A": "b"})
    [found] = [Either(item) async for item in items(await _list(sdk, name=f"used-{sdk.name}"))]
    assert (await found.process.exec("echo $A")).result == "b\n"
    assert found.env is None
    await found.refresh_data()
    assert found.env == {"A": "b"}


# Change


@scenario
async def test_stop_and_start(sdk: Sdk, make: Make) -> None:
    sandbox = await make(env_vars={"A": "b"})
    await sandbox.fs.upload_file(b"kept", "file")
    await sandbox.process.exec("sleep 300 >/dev/null 2>&1 &")
    await sandbox.stop()
    assert (sandbox.state, sandbox.desired_state) == ("stopped", "stopped")
    await sandbox.wait_for_sandbox_stop()
    for method, *args in ((sandbox.process.exec, "true"), (sandbox.get_work_dir,), (sandbox.fs.list_files, ".")):
        with pytest.raises(DaytonaConflictError, match="stopped"):
            await method(*args)
    with pytest.raises(DaytonaError, match="409"):
        await sandbox.fs.download_file("file")
    await sandbox.stop()
    await sandbox.start()
    await sandbox.wait_for_sandbox_start()
    assert (sandbox.state, await sandbox.fs.download_file("file")) == ("started", b"kept")
    assert (await sandbox.process.exec("echo $A; pgrep -x sleep -s 0 | wc -l")).result == "b\n0\n"
    await sdk.daytona.stop(sandbox)
    await sdk.daytona.start(sandbox)
    await sandbox.stop(force=True)
    await sandbox.refresh_data()
    assert sandbox.state == "stopped"
    with pytest.raises(DaytonaBadRequestError):
        await sandbox.recover()


@scenario
async def test_labels_intervals_and_activity(sdk: Sdk, make: Make) -> None:
    sandbox = await make(labels={"old": "x"})
    assert await sandbox.set_labels({"new": "y", "empty": ""}) == {"new": "y", "empty": ""}
    await sandbox.set_autostop_interval(7)
    await sandbox.set_auto_archive_interval(8)
    await sandbox.set_auto_delete_interval(9)
    await sandbox.set_auto_pause_interval(0)
    await sandbox.set_public(public=True)
    await sandbox.set_ttl(60)
    last = sandbox.last_activity_at
    await sandbox.refresh_activity()
    await sandbox.refresh_data(request_timeout=30)
    assert (sandbox.labels, sandbox.public) == ({"new": "y", "empty": ""}, True)
    assert (sandbox.auto_stop_interval, sandbox.auto_archive_interval, sandbox.auto_delete_interval) == (7, 8, 9)
    assert sandbox.auto_destroy_at
    assert sandbox.last_activity_at > last
    await sandbox.set_ttl(0)
    await sandbox.set_auto_delete_interval(-1)
    await sandbox.refresh_data()
    assert (sandbox.auto_destroy_at, sandbox.auto_delete_interval) == (None, -1)
    with pytest.raises(DaytonaValidationError):
        await sandbox.set_autostop_interval(-1)


@scenario
async def test_delete(sdk: Sdk, make: Make) -> None:
    sandbox = await make()
    await sandbox.delete(wait=True)
    assert sandbox.state == "destroyed"
    for method, *args in (
        (sandbox.refresh_data,),
        (sandbox.start,),
        (sandbox.stop,),
        (sandbox.delete,),
        (sandbox.set_labels, {}),
        (sandbox.get_work_dir,),
        (sandbox.process.exec, "true"),
        (sandbox.fs.get_file_info, "."),
    ):
        with pytest.raises(DaytonaNotFoundError):
            await method(*args)


# In the sandbox


@scenario
async def test_directories_and_environment(sdk: Sdk, make: Make) -> None:
    sandbox = await make(env_vars={"OLD": "x", "KEPT": "y"})
    home = await sandbox.get_user_home_dir()
    assert await sandbox.get_work_dir() == home == (await sandbox.process.exec("echo ~; pwd -P >&2")).result.split()[0]
    await sandbox.update_env({"NEW": "z", "KEPT": "changed"}, unset=["OLD", "NEVER"])
    script = 'echo "$NEW,$KEPT,${OLD-unset}"'
    assert (await sandbox.process.exec(script)).result == "z,changed,unset\n"
    assert (await sandbox.process.exec(script, env={"KEPT": "here"})).result == "z,here,unset\n"
    with pytest.raises(DaytonaBadRequestError):
        await sandbox.update_env({"not a name": ""})


@scenario
async def test_metrics(sdk: Sdk, box: Any) -> None:
    metrics = await box.get_metrics_latest()
    assert metrics.cpu_count > 0
    assert 0 <= metrics.cpu_used_pct <= 100
    assert 0 < metrics.mem_used < metrics.mem_total
    assert 0 < metrics.disk_used < metrics.disk_total
    assert metrics.mem_cache >= 0
    assert abs(metrics.timestamp - datetime.now(UTC)) < timedelta(seconds=30)


@scenario
async def test_execute(sdk: Sdk, box: Any) -> None:
    run = box.process.exec
    answer = await run("echo out; echo err >&2; exit 3")
    assert (answer.exit_code, answer.result, answer.artifacts.stdout) == (3, "out\nerr\n", "out\nerr\n")
    assert (await run("pwd", cwd="/")).result == "/\n"
    assert (await run("true", cwd="/no/such")).exit_code == -1
    assert (await run("no-such-program")).exit_code == 127
    assert (await run("kill -9 $$")).exit_code == -1
    assert (await run("cat")).result == ""
    assert (await run("printf 'a\\377b'")).result == "a\N{REPLACEMENT CHARACTER}b"
    assert len((await run("head -c 5000000 /dev/zero | tr '\\0' x")).result) == 5_000_000
    assert (await run(f"echo {'x' * 200_000} | wc -c")).result.strip() == "200001"
    with pytest.raises(DaytonaProcessExecutionTimeoutError) as caught:
        await run("echo begun; sleep 60", timeout=1)
    assert (caught.value.status_code, caught.value.source) == (408, "DAYTONA_DAEMON")
    for wrong in ({"command": " "}, {"command": "true", "env": {"1A": ""}}):
        with pytest.raises(DaytonaBadRequestError):
            await run(**wrong)


# What there is not (yet) is a typed error


@scenario
async def test_what_the_driver_cannot_do_is_refused_by_name(sdk: Sdk, box: Any) -> None:
    with pytest.raises(DaytonaBadRequestError, match="the process driver cannot limit the network"):
        await box.update_network_settings(network_block_all=True)
    with pytest.raises(DaytonaBadRequestError, match="there is no secret named 'b'"):
        await box.update_secrets({"A": "b"})


@scenario
async def test_ssh_access(sdk: Sdk, box: Any) -> None:
    access = await box.create_ssh_access(expires_in_minutes=10)
    assert access.ssh_command.endswith(f"{access.token}@127.0.0.1")
    assert (await box.validate_ssh_access(access.token)).valid
    await box.revoke_ssh_access(access.token)
    assert not (await box.validate_ssh_access(access.token)).valid
    assert not (await box.validate_ssh_access("never-given")).valid


@scenario
async def test_there_is_a_snapshot_to_begin_with(sdk: Sdk) -> None:
    assert "default" in [each.name for each in (await sdk.daytona.snapshot.list()).items]


# Clients that do not get through


def test_wrong_key(server: Server) -> None:
    config = DaytonaConfig(api_url=server.api_url, api_key="wrong", target="local")
    for call in (Daytona(config).create, lambda: list(Daytona(config).list())):
        with pytest.raises(DaytonaAuthenticationError) as caught:
            call()
        assert (caught.value.status_code, caught.value.code) == (401, "UNAUTHORIZED")


async def test_wrong_key_async(server: Server) -> None:
    async with AsyncDaytona(DaytonaConfig(api_url=server.api_url, api_key="wrong", target="local")) as daytona:
        with pytest.raises(DaytonaAuthenticationError):
            await daytona.create()


def test_nobody_listens() -> None:
    daytona = Daytona(DaytonaConfig(api_url="http://127.0.0.1:9/api", api_key="any", target="local"))
    with pytest.raises(DaytonaError, match="Connection refused"):
        daytona.get("one")
