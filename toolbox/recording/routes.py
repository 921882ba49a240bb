"""Routes of `/computeruse/recordings`."""

from aiohttp import web

from toolbox.recording.models import (
    ListRecordingsResponse,
    Recording,
    StartRecordingRequest,
    StopRecordingRequest,
)
from toolbox.recording.recordings import Recordings
from toolbox.web.endpoint import Routes
from toolbox.web.file_response import send_file

routes = Routes("computer-use")

_VIDEO = "video/mp4"


@routes.post("/computeruse/recordings/start", "StartRecording", status=201, optional_body=True)
async def start(body: StartRecordingRequest, recordings: Recordings) -> Recording:
    """Start to film the screen, or a region of it; the answer comes with the first picture."""
    return await recordings.start(body)


@routes.post("/computeruse/recordings/stop", "StopRecording")
async def stop(body: StopRecordingRequest, recordings: Recordings) -> Recording:
    """End a recording that is under way."""
    return await recordings.stop(body.id)


@routes.get("/computeruse/recordings", "ListRecordings")
async def list_recordings(recordings: Recordings) -> ListRecordingsResponse:
    """List what is being recorded, then what was, the latest first."""
    return ListRecordingsResponse(recordings=await recordings.all())


@routes.get("/computeruse/recordings/{recording_id}", "GetRecording")
async def get(recording_id: str, recordings: Recordings) -> Recording:
    """Tell what is known of a recording."""
    return await recordings.get(recording_id)


@routes.delete("/computeruse/recordings/{recording_id}", "DeleteRecording", status=204)
async def delete(recording_id: str, recordings: Recordings) -> None:
    """Remove a recording that has ended."""
    await recordings.delete(recording_id)


@routes.get("/computeruse/recordings/{recording_id}/download", "DownloadRecording", produces=_VIDEO)
async def download(request: web.Request, recording_id: str, recordings: Recordings) -> web.StreamResponse:
    """Send a recording, one under way up to now; ranges and validators are understood."""
    name, file = await recordings.download(recording_id)
    async with file as opened:
        return await send_file(request, opened, name, recordings.threads, content_type=_VIDEO)
