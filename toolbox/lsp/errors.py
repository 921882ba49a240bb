"""What goes wrong with a language server."""

from toolbox.errors import BadRequest, ToolboxError, Unavailable


class NotInitialized(BadRequest):
    """No server was started for that language and project."""

    code = "LSP_SERVER_NOT_INITIALIZED"


class NothingToStop(ToolboxError):
    """As `NotInitialized`, with the status that the contract has for a stop."""

    code = "LSP_SERVER_NOT_INITIALIZED"


class StartFailed(ToolboxError):
    """The server cannot be started, or ends as soon as it is."""

    code = "LSP_SERVER_START_FAILED"


class Restarting(Unavailable):
    """The server has ended by itself; it is started again after a pause."""

    code = "LSP_SERVER_RESTARTING"


class RequestFailed(BadRequest):
    """The server answered with an error, or cannot do what was asked."""

    code = "LSP_REQUEST_FAILED"


class ServerEnded(Exception):
    """The connection to the server is over; the message says why."""


class ServerStopped(ServerEnded):
    """We ended it."""
