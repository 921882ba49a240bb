"""The control plane in pods: whether its rights are enough, and that no request is lost while it is replaced."""

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from daytona import (
    AsyncDaytona,
    CreateSandboxFromSnapshotParams,
    CreateSnapshotParams,
    Daytona,
    DaytonaConfig,
    VolumeMount,
)

from tests.deploy.chart import Helm
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.release import SMALL, Release, restricted_namespace

PLANES = "--selector=app.kubernetes.io/component=controlplane"


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Not here: the sync SDK's clients cannot be closed."""


@pytest.fixture(scope="module")
def values(image: str) -> dict[str, object]:
    """Return the values that the chart is installed with."""
    return {
        "imagePullPolicy": "Never",
        "controlPlane": {"image": image, "resources": SMALL, "drainSeconds": 90},
        "sandbox": {
            "image": image,
            "warmPool": 1,
            "resources": SMALL,
            "home": {"storageClass": "toolbox-test", "size": "1Gi"},
        },
        "volumes": {"storageClass": "toolbox-test", "size": "1Gi"},
    }


@pytest.fixture(scope="module")
def release(cluster: Cluster, values: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Install the chart, with two replicas that answer."""
    with restricted_namespace(cluster, "test-rollout") as namespace:
        found = Release(Helm(), namespace, tmp_path_factory.mktemp("rollout") / "values.json")
        found.make("install", **values)
        rolled_out(namespace)
        yield found


def rolled_out(namespace: Namespace) -> None:
    namespace.kubectl("rollout", "status", "deployment/sandbox-toolbox", "--timeout=120s")


@asynccontextmanager
async def service(release: Release) -> AsyncIterator[DaytonaConfig]:
    """Do what the Service does where there is a kube-proxy: each new connection goes to any pod that is ready."""
    connections: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listed = await asyncio.to_thread(release.namespace.kubectl, "get", "endpointslices", "--output=json")
        ready = [
            each["addresses"][0]
            for found in json.loads(listed)["items"]
            for each in found["endpoints"] or []
            if each["conditions"]["ready"]
        ]
        from_pod, to_pod = await asyncio.open_connection(random.choice(ready), 2280)
        try:
            await asyncio.gather(relay(reader, to_pod), relay(from_pod, writer))
        finally:
            to_pod.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(connect(reader, writer))
        connections.add(connection)
        connection.add_done_callback(connections.discard)
        with suppress(asyncio.CancelledError):
            await connection
        writer.close()

    key = base64.b64decode(release.keys()["api-key"]).decode()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield DaytonaConfig(api_url=f"http://127.0.0.1:{port}/api", api_key=key, target="local")
        for each in list(connections):
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def use_everything(config: DaytonaConfig, image: str) -> None:
    """Have the control plane do each thing that it needs a right for."""
    daytona = Daytona(config)
    warm = daytona.create()
    assert warm.process.exec("id -u; pwd").result == "1000\n/home/sandbox\n"
    for network in ({"network_block_all": True}, {"network_allow_list": "192.0.2.0/24"}):
        cold = daytona.create(CreateSandboxFromSnapshotParams(**network))
        assert cold.process.exec("echo cold").result == "cold\n"
        cold.delete()
    volume = daytona.volume.create("shared")
    mounted = CreateSandboxFromSnapshotParams(volumes=[VolumeMount(volume_id=volume.id, mount_path="/shared")])
    beside = daytona.create(mounted)
    assert beside.process.exec("touch /shared/file; ls /shared").result == "file\n"
    beside.delete()
    daytona.volume.delete(volume)
    warm.process.exec("echo kept > file")
    warm.stop()
    warm.start()
    assert warm.process.exec("cat file").result == "kept\n"
    snapshot = daytona.snapshot.create(CreateSnapshotParams(name="same", image=image))
    assert snapshot.state == "active"
    daytona.snapshot.delete(snapshot)
    warm.delete()


async def test_the_rights_of_its_account_are_enough(release: Release, image: str) -> None:
    async with service(release) as config:
        await asyncio.to_thread(use_everything, config, image)
    for pod in release.namespace.names("pods", PLANES):
        assert "forbidden" not in release.namespace.kubectl("logs", pod)


async def test_no_request_is_lost_while_replicas_are_replaced(release: Release, values: dict[str, object]) -> None:
    namespace = release.namespace
    before = namespace.names("pods", PLANES)
    assert len(before) == 2
    async with service(release) as config, AsyncDaytona(config) as daytona:
        sandbox = await daytona.create()
        long = asyncio.create_task(sandbox.process.exec("until [ -e gate ]; do sleep 0.1; done; echo whole"))
        over, answered = asyncio.Event(), [0, 0]

        async def load(number: int) -> None:
            while not over.is_set():
                answer = await sandbox.process.exec(f"echo {number} {answered[number]}")
                assert answer.result == f"{number} {answered[number]}\n"
                assert [each.id async for each in daytona.list()] == [sandbox.id]
                answered[number] += 1

        busy = [asyncio.create_task(load(number)) for number in range(len(answered))]
        changed = {**values, "controlPlane": {**values["controlPlane"], "podAnnotations": {"changed": "yes"}}}  # type: ignore[dict-item]
        await asyncio.to_thread(release.make, "upgrade", **changed)
        await asyncio.to_thread(rolled_out, namespace)
        assert not long.done()
        await sandbox.process.exec("touch gate")
        assert (await long).result == "whole\n"
        for pod in before:
            await asyncio.to_thread(namespace.cluster.wait_until_gone, "--namespace", namespace.name, f"pod/{pod}")
        over.set()
        await asyncio.gather(*busy)
        assert min(answered) > 5
        await sandbox.delete()
    assert not set(before) & set(namespace.names("pods", PLANES))
