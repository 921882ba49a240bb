"""Snapshots of images that lack the daemon: it is brought to their pods."""

import asyncio
from pathlib import Path

from tests.image.conftest import NAME, BuildStage
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.planes import kubernetes_plane

BASE = "docker.io/library/debian:bookworm-slim"


async def test_daemon_is_brought_to_an_image_without_one(
    tmp_path: Path, cluster: Cluster, namespace: Namespace, build_stage: BuildStage
) -> None:
    await asyncio.to_thread(build_stage, "daemon")
    for name in (f"{NAME}:daemon", BASE):
        await asyncio.to_thread(cluster.load, name)
    said = f"sandbox-toolbox.dev/daemon-image={NAME}:daemon"
    namespace.kubectl("annotate", "--overwrite", "sandboxtemplate/sandbox-toolbox", said)
    async with kubernetes_plane(tmp_path / "state", namespace) as plane:
        snapshot = await plane.call("POST", "/snapshots", json={"name": "bare", "imageName": BASE})
        async with asyncio.timeout(60):
            while snapshot["state"] in ("pending", "pulling"):
                await asyncio.sleep(0.2)
                snapshot = await plane.call("GET", f"/snapshots/{snapshot['id']}")
        assert snapshot["state"] == "active", snapshot
        sandbox = await plane.create(snapshot="bare", env={"GREETING": "hi"})
        assert await plane.execute(sandbox, "echo $GREETING; command -v toolboxd python3 || echo none of both") == (
            "hi\nnone of both"
        )
        # A restart brings it again.
        await plane.call("POST", f"/sandbox/{sandbox['id']}/stop")
        await plane.call("POST", f"/sandbox/{sandbox['id']}/start")
        assert await plane.execute(sandbox, "echo $GREETING") == "hi"
        await plane.call("DELETE", f"/sandbox/{sandbox['id']}")
        await plane.call("DELETE", f"/snapshots/{snapshot['id']}")
