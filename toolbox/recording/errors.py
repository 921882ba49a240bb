"""Errors of recordings. Where the contract has a word in `error` instead of a text, it is kept."""

from toolbox.errors import BadRequest, ToolboxError


class InvalidLabel(BadRequest):
    """A label that cannot be part of a file's name."""

    def __init__(self) -> None:
        super().__init__(
            "a label has 1 to 100 letters of ASCII, digits, spaces, dots, underscores and hyphens, "
            "is not blank and does not begin with a dot",
            extra={"error": "invalid_label"},
        )


class FfmpegNotFound(BadRequest):
    """The sandbox has no ffmpeg."""

    code = "RECORDING_FFMPEG_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("recording needs ffmpeg on the PATH of the sandbox", extra={"error": "ffmpeg_not_found"})


class StillActive(BadRequest):
    """The recording has not been stopped."""

    code = "RECORDING_STILL_ACTIVE"

    def __init__(self) -> None:
        super().__init__("cannot delete an active recording, stop it first")


class RecordingFailed(ToolboxError):
    """The screen could not be recorded; the text is what ffmpeg said."""

    code = "RECORDING_FAILED"
