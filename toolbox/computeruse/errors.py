"""Errors of computer use."""

from toolbox.errors import BadRequest, Unavailable


class DesktopUnavailable(Unavailable):
    """The desktop is not started, or its X server has gone."""

    code = "COMPUTER_USE_UNAVAILABLE"

    def __init__(
        self, message: str = "the desktop is not started: POST /computeruse/start", *, details: str | None = None
    ) -> None:
        super().__init__(message, extra={"details": details} if details is not None else None)


class UnknownProcess(BadRequest):
    """The desktop has no process of that name."""

    code = "PROCESS_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"process {name} not found")
