"""Errors of computer use."""

from toolbox.errors import Unavailable


class DesktopUnavailable(Unavailable):
    """The desktop is not started, or its X server has gone."""

    code = "COMPUTER_USE_UNAVAILABLE"

    def __init__(self, message: str = "the desktop is not started: POST /computeruse/start") -> None:
        super().__init__(message)
