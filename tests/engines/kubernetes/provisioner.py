"""Gives the claims of the storage class `toolbox-test` their volumes. Usage: provisioner.py DIRECTORY.

Each volume is a directory of the node below DIRECTORY, open to every user and to any number of pods, as large as the
disk. It goes with its claim. The cluster is the one of $KUBECONFIG.
"""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes_asyncio import client, config, watch

NAME = "sandbox-toolbox.dev/directory"
STORAGE_CLASS = "toolbox-test"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_CONFLICT, _NOT_FOUND = 409, 404
_RETRY_SECONDS = 0.5
_UNREACHABLE = (client.ApiException, aiohttp.ClientError, OSError)
"""The API server is being restarted, or somebody else was quicker."""

List = Callable[..., Awaitable[Any]]


class Provisioner:
    """Makes and removes volumes."""

    def __init__(self, core: client.CoreV1Api, directory: Path) -> None:
        self._core = core
        self._directory = directory
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Serve for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(self._core.list_persistent_volume_claim_for_all_namespaces))
            tasks.create_task(self._watch(self._core.list_persistent_volume))
            while True:
                await self._changed.wait()
                self._changed.clear()
                try:
                    await self._reconcile()
                except _UNREACHABLE as error:
                    print(f"again: {error}", file=sys.stderr)
                    await asyncio.sleep(_RETRY_SECONDS)
                    self._changed.set()

    async def _watch(self, function: List) -> None:
        while True:
            try:
                async with watch.Watch().stream(function) as events:
                    async for _ in events:
                        self._changed.set()
            except _UNREACHABLE as error:
                print(f"watching again: {error}", file=sys.stderr)
            await asyncio.sleep(_RETRY_SECONDS)
            # Whatever happened meanwhile.
            self._changed.set()

    async def _reconcile(self) -> None:
        for claim in (await self._core.list_persistent_volume_claim_for_all_namespaces()).items:
            waits = claim.status.phase == "Pending" and not claim.metadata.deletion_timestamp
            if waits and claim.spec.storage_class_name == STORAGE_CLASS and not claim.spec.volume_name:
                await self._make(claim)
        for volume in (await self._core.list_persistent_volume()).items:
            ours = (volume.metadata.annotations or {}).get(_PROVISIONED_BY) == NAME
            if ours and volume.status.phase in ("Released", "Failed"):
                await self._remove(volume)

    async def _make(self, claim: client.V1PersistentVolumeClaim) -> None:
        name = f"pvc-{claim.metadata.uid}"
        path = self._directory / name
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
        reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": claim.metadata.uid}
        reference |= {"namespace": claim.metadata.namespace, "name": claim.metadata.name}
        volume: Any = {
            "metadata": {"name": name, "annotations": {_PROVISIONED_BY: NAME}},
            "spec": {
                "accessModes": claim.spec.access_modes,
                "capacity": {"storage": claim.spec.resources.requests["storage"]},
                "claimRef": reference,
                "hostPath": {"path": str(path), "type": "Directory"},
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": STORAGE_CLASS,
            },
        }
        try:
            await self._core.create_persistent_volume(volume)
        except client.ApiException as error:
            if error.status != _CONFLICT:
                raise

    async def _remove(self, volume: client.V1PersistentVolume) -> None:
        await asyncio.to_thread(shutil.rmtree, volume.spec.host_path.path, ignore_errors=True)
        try:
            await self._core.delete_persistent_volume(volume.metadata.name)
        except client.ApiException as error:
            if error.status != _NOT_FOUND:
                raise


async def main(directory: Path) -> None:
    """Serve the cluster of $KUBECONFIG."""
    await config.load_kube_config()
    async with client.ApiClient() as api:
        await Provisioner(client.CoreV1Api(api), directory).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
