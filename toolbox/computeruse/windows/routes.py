"""Routes of displays and windows."""

from toolbox.computeruse.windows.models import (
    CloseQuery,
    CloseWindowResponse,
    DisplayInfoResponse,
    MoveWindowRequest,
    ResizeWindowRequest,
    WindowInfo,
    WindowsResponse,
)
from toolbox.computeruse.windows.windows import Windows
from toolbox.web.endpoint import Routes

routes = Routes("computer-use")


@routes.get("/computeruse/display/info", "GetDisplayInfo")
async def display_info(windows: Windows) -> DisplayInfoResponse:
    """List the monitors."""
    displays = await windows.displays()
    primary = next((display for display in displays if display.is_primary), displays[0])
    return DisplayInfoResponse(displays=displays, primary_display=primary, total_displays=len(displays))


@routes.get("/computeruse/display/windows", "GetWindows")
async def list_windows(windows: Windows) -> WindowsResponse:
    """List the windows of all desktops, minimized ones too, from the lowest to the topmost."""
    found = await windows.all()
    return WindowsResponse(windows=found, count=len(found))


@routes.post("/computeruse/display/windows/{window_id}/focus", "FocusWindow")
async def focus(window_id: int, windows: Windows) -> WindowInfo:
    """Give a window the keyboard: bring it to the top, from another desktop or from being minimized if need be."""
    return await windows.focus(window_id)


@routes.post("/computeruse/display/windows/{window_id}/move", "MoveWindow")
async def move(window_id: int, body: MoveWindowRequest, windows: Windows) -> WindowInfo:
    """Move a window; a maximized one is restored before. The window manager may allow less than was asked for."""
    return await windows.move(window_id, body.x, body.y)


@routes.post("/computeruse/display/windows/{window_id}/resize", "ResizeWindow")
async def resize(window_id: int, body: ResizeWindowRequest, windows: Windows) -> WindowInfo:
    """Resize a window; a maximized one is restored before. Programs may set limits: terminals take whole characters."""
    return await windows.resize(window_id, body.width, body.height)


@routes.post("/computeruse/display/windows/{window_id}/close", "CloseWindow")
async def close(window_id: int, query: CloseQuery, windows: Windows) -> CloseWindowResponse:
    """Close a window as its button does; a program that does not answer at all needs `force`."""
    return CloseWindowResponse(closed=await windows.close(window_id, force=query.force))


@routes.post("/computeruse/display/windows/{window_id}/minimize", "MinimizeWindow")
async def minimize(window_id: int, windows: Windows) -> WindowInfo:
    """Hide a window; focus brings it back."""
    return await windows.minimize(window_id)


@routes.post("/computeruse/display/windows/{window_id}/maximize", "MaximizeWindow")
async def maximize(window_id: int, windows: Windows) -> WindowInfo:
    """Let a window fill the screen; moving or resizing it undoes that."""
    return await windows.maximize(window_id)
