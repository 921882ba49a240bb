"""Screenshots by the published Python SDKs, sync and async."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from daytona import (
    CreateSandboxFromSnapshotParams,
    DaytonaBadRequestError,
    DaytonaServiceUnavailableError,
    ScreenshotOptions,
    ScreenshotRegion,
)
from PIL import Image

from tests.sdk.clients import Sdk, scenario

REGION = ScreenshotRegion(x=100, y=50, width=301, height=199)


@pytest.fixture(scope="module")
def seen(sdk: Sdk) -> Iterator[Any]:
    """Return the screenshots of a sandbox whose desktop is started."""
    created = sdk.run(sdk.daytona.create(CreateSandboxFromSnapshotParams()))
    try:
        sdk.run(created.computer_use.start())
        yield created.computer_use.screenshot
    finally:
        sdk.run(created.delete(wait=True))


def check(answer: Any, kind: str, size: tuple[int, int]) -> None:
    """Assert that the answer holds an image, and what the SDK's model promises."""
    data = base64.b64decode(answer.screenshot, validate=True)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size) == (kind, size)
    assert answer.size_bytes == len(data)
    assert answer.cursor_position.x >= 0
    assert answer.cursor_position.y >= 0
    assert (answer.additional_properties["width"], answer.additional_properties["height"]) == size


@pytest.mark.parametrize("cursor", [False, True])
@scenario
async def test_whole_screen_and_region(*, sdk: Sdk, seen: Any, cursor: bool) -> None:
    check(await seen.take_full_screen(cursor), "PNG", (1024, 768))
    check(await seen.take_region(REGION, cursor), "PNG", (301, 199))
    check(await seen.take_region(ScreenshotRegion(x=-10, y=760, width=50, height=50)), "PNG", (50, 50))


@scenario
async def test_compressed(*, sdk: Sdk, seen: Any) -> None:
    check(await seen.take_compressed(), "PNG", (1024, 768))
    check(await seen.take_compressed_region(REGION), "PNG", (301, 199))
    for name in ("png", "jpeg", "webp"):
        options = ScreenshotOptions(fmt=name, quality=80, scale=0.5, show_cursor=True)
        check(await seen.take_compressed(options), name.upper(), (512, 384))
        check(await seen.take_compressed_region(REGION, options), name.upper(), (150, 99))


@scenario
async def test_what_goes_wrong(*, sdk: Sdk, seen: Any) -> None:
    for options in ({"fmt": "gif"}, {"quality": 0}, {"scale": 1.5}, {"scale": 0.01}):
        with pytest.raises(DaytonaBadRequestError):
            await seen.take_compressed(ScreenshotOptions(**options))
    for size in ((0, 10), (10, -1), (100_000, 100_000)):
        with pytest.raises(DaytonaBadRequestError):
            await seen.take_region(ScreenshotRegion(x=0, y=0, width=size[0], height=size[1]))


@scenario
async def test_without_a_desktop(*, sdk: Sdk, box: Any) -> None:
    with pytest.raises(DaytonaServiceUnavailableError, match="not started"):
        await box.computer_use.screenshot.take_full_screen()
