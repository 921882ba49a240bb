"""What is not called is named, and what is refused has to be refused as documented."""

from typing import Any

import pytest
from daytona import DaytonaNotFoundError
from daytona._sync.volume import VolumeService

from tests.sdk.clients import Sdk, scenario
from tests.sdk.recording import Record, Recorded, Refusal

MISSING = "VolumeService.get(no-such-volume)"


def recorded(sdk: Sdk, *cases: tuple[str, Refusal]) -> tuple[Any, Record]:
    """Return the volumes of a client, and what is noted of them."""
    record = Record(dict(cases))
    return Recorded(sdk.daytona.volume.wrapped, record), record


@scenario
async def test_what_was_not_answered_is_named(sdk: Sdk) -> None:
    volumes, record = recorded(sdk)
    await volumes.list()
    with pytest.raises(DaytonaNotFoundError):
        await volumes.get("no-such-volume")
    others = ["VolumeService.create", "VolumeService.delete", "VolumeService.get"]
    assert record.missing([VolumeService]) == others
    assert record.missing([type(volumes.wrapped)]) == others


@scenario
async def test_a_refusal_is_as_documented(sdk: Sdk) -> None:
    volumes, record = recorded(sdk, (MISSING, Refusal(404, "NOT_FOUND", "volume not found")))
    assert MISSING in record.missing([VolumeService])
    assert await record.attempt(MISSING, volumes.get("no-such-volume")) is False
    assert MISSING not in record.missing([VolumeService])


@pytest.mark.parametrize("refusal", [(400, "NOT_FOUND", "volume"), (404, "GONE", "volume"), (404, "NOT_FOUND", "box")])
@scenario
async def test_a_refusal_of_another_kind_fails(sdk: Sdk, refusal: tuple[int, str, str]) -> None:
    volumes, record = recorded(sdk, (MISSING, Refusal(*refusal)))
    with pytest.raises(AssertionError):
        await record.attempt(MISSING, volumes.get("no-such-volume"))
    assert MISSING in record.missing([VolumeService])


@scenario
async def test_what_should_be_refused_must_not_be_answered(sdk: Sdk) -> None:
    volumes, record = recorded(sdk, ("VolumeService.list", Refusal(400, "BAD_REQUEST", "cannot")))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        await record.attempt("VolumeService.list", volumes.list())
