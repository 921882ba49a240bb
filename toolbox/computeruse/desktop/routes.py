"""Routes of the desktop's life."""

from toolbox.computeruse.desktop.desktop import Desktop
from toolbox.computeruse.desktop.models import StatusResponse
from toolbox.web.endpoint import Routes

routes = Routes("computer-use")


@routes.post("/computeruse/start", "StartComputerUse")
async def start(desktop: Desktop) -> StatusResponse:
    """Start the desktop."""
    await desktop.start()
    return StatusResponse(status="active")


@routes.post("/computeruse/stop", "StopComputerUse")
async def stop(desktop: Desktop) -> StatusResponse:
    """Stop the desktop."""
    await desktop.stop()
    return StatusResponse(status="inactive")
