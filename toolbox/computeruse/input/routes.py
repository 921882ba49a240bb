"""Routes of mouse and keyboard."""

from toolbox.computeruse.input import models
from toolbox.computeruse.input.input import Input
from toolbox.web.endpoint import Routes

routes = Routes("computer-use")


@routes.get("/computeruse/mouse/position", "GetMousePosition")
async def position(user_input: Input) -> models.PositionResponse:
    """Tell where the pointer is."""
    return models.PositionResponse(*await user_input.position())


@routes.post("/computeruse/mouse/move", "MoveMouse")
async def move(body: models.MoveRequest, user_input: Input) -> models.PositionResponse:
    """Move the pointer."""
    return models.PositionResponse(*await user_input.move(body.x, body.y, smooth=body.smooth))


@routes.post("/computeruse/mouse/click", "Click")
async def click(body: models.ClickRequest, user_input: Input) -> models.PositionResponse:
    """Click at a place."""
    clicks = body.clicks if body.clicks is not None else 2 if body.double else 1
    at = await user_input.click(body.x, body.y, button=body.button, clicks=clicks, modifiers=body.modifiers)
    return models.PositionResponse(*at)


@routes.post("/computeruse/mouse/drag", "Drag")
async def drag(body: models.DragRequest, user_input: Input) -> models.PositionResponse:
    """Press at one place and release at another."""
    start, end = (body.start_x, body.start_y), (body.end_x, body.end_y)
    at = await user_input.drag(start, end, button=body.button, modifiers=body.modifiers)
    return models.PositionResponse(*at)


@routes.post("/computeruse/mouse/scroll", "Scroll")
async def scroll(body: models.ScrollRequest, user_input: Input) -> models.ScrollResponse:
    """Turn the wheel at a place."""
    await user_input.scroll(body.x, body.y, direction=body.direction, amount=body.amount or 1, modifiers=body.modifiers)
    return models.ScrollResponse(success=True)


@routes.post("/computeruse/mouse/down", "MouseDown")
async def button_down(body: models.ButtonRequest, user_input: Input) -> models.PositionResponse:
    """Press a mouse button and hold it."""
    return models.PositionResponse(*await user_input.button(body.button, body.x, body.y, down=True))


@routes.post("/computeruse/mouse/up", "MouseUp")
async def button_up(body: models.ButtonRequest, user_input: Input) -> models.PositionResponse:
    """Release a mouse button."""
    return models.PositionResponse(*await user_input.button(body.button, body.x, body.y, down=False))


@routes.post("/computeruse/keyboard/type", "TypeText")
async def type_text(body: models.TypeRequest, user_input: Input) -> dict[str, str]:
    """Type text."""
    await user_input.type(body.text, delay=body.delay)
    return {}


@routes.post("/computeruse/keyboard/key", "PressKey")
async def press_key(body: models.KeyRequest, user_input: Input) -> dict[str, str]:
    """Press and release a key, with modifiers held."""
    await user_input.press(body.key, body.modifiers)
    return {}


@routes.post("/computeruse/keyboard/hotkey", "PressHotkey")
async def press_hotkey(body: models.HotkeyRequest, user_input: Input) -> dict[str, str]:
    """Press and release a chord, like ctrl+c."""
    await user_input.hotkey(body.keys)
    return {}


@routes.post("/computeruse/keyboard/down", "KeyDown")
async def key_down(body: models.HeldKeyRequest, user_input: Input) -> dict[str, str]:
    """Press a key and hold it."""
    await user_input.key(body.key, down=True)
    return {}


@routes.post("/computeruse/keyboard/up", "KeyUp")
async def key_up(body: models.HeldKeyRequest, user_input: Input) -> dict[str, str]:
    """Release a key."""
    await user_input.key(body.key, down=False)
    return {}
