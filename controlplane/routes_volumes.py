"""The sandboxes API: volumes."""

from controlplane.models import VolumeDto, VolumeRequest
from controlplane.volumes import Volume, Volumes
from toolbox.web.endpoint import Routes

routes = Routes("volume")


@routes.get("/api/volumes", "listVolumes")
async def list_volumes(volumes: Volumes) -> list[VolumeDto]:
    """Return all volumes, newest first."""
    return [_shown(volume) for volume in await volumes.all()]


@routes.post("/api/volumes", "createVolume")
async def create_volume(volumes: Volumes, body: VolumeRequest) -> VolumeDto:
    """Make a volume."""
    return _shown(await volumes.create(body.name))


@routes.get("/api/volumes/by-name/{name}", "getVolumeByName")
async def volume_by_name(volumes: Volumes, name: str) -> VolumeDto:
    """Return a volume by its name."""
    return _shown(await volumes.get(name))


@routes.get("/api/volumes/{volume}", "getVolume")
async def get_volume(volumes: Volumes, volume: str) -> VolumeDto:
    """Return a volume by id or name."""
    return _shown(await volumes.get(volume))


@routes.delete("/api/volumes/{volume}", "deleteVolume")
async def delete_volume(volumes: Volumes, volume: str) -> None:
    """Remove a volume, with what is in it, that no sandbox has."""
    await volumes.remove(volume)


def _shown(volume: Volume) -> VolumeDto:
    return VolumeDto(**{name: getattr(volume, name) for name in VolumeDto.__struct_fields__})
