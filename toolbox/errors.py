"""The errors a service raises: the class carries the HTTP status and the wire code.

Codes and statuses are those of the wire contract (`ErrorResponse` of the published toolbox API); a client picks its
exception class by the pair (source, code), then by the status.
"""

import errno
from collections.abc import Mapping
from typing import Any


class ToolboxError(Exception):
    """Base of all errors that have an answer on the wire.

    `code` overrides the class's wire code; `extra` holds further JSON fields for the error body, `headers` further
    headers of the answer.
    """

    status = 500
    code = "INTERNAL_SERVER_ERROR"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.extra = extra or {}
        self.headers = headers or {}


class BadRequest(ToolboxError):
    """The request cannot be understood or asks for something that never works."""

    status = 400
    code = "BAD_REQUEST"


class InvalidBody(BadRequest):
    """The request body is not the JSON the endpoint takes."""

    code = "INVALID_REQUEST_BODY"


class InvalidPath(BadRequest):
    """A path no file can have, or of the wrong kind (a file where a directory is needed)."""

    code = "INVALID_FILE_PATH"


class Unauthorized(ToolboxError):
    """No valid credential came with the request."""

    status = 401
    code = "UNAUTHORIZED"


class Forbidden(ToolboxError):
    """Understood, and refused."""

    status = 403
    code = "FORBIDDEN"


class FileAccessDenied(Forbidden):
    """The file system refused."""

    code = "FILE_ACCESS_DENIED"


class NotFound(ToolboxError):
    """The named thing does not exist."""

    status = 404
    code = "NOT_FOUND"


class FileMissing(NotFound):
    """No file at that path."""

    code = "FILE_NOT_FOUND"


class MethodNotAllowed(ToolboxError):
    """The path exists, with other methods."""

    status = 405
    code = "METHOD_NOT_ALLOWED"


class RequestTimeout(ToolboxError):
    """The time the caller allowed is over."""

    status = 408
    code = "REQUEST_TIMEOUT"


class Conflict(ToolboxError):
    """Clashes with something that exists or is under way."""

    status = 409
    code = "CONFLICT"


class Gone(ToolboxError):
    """Existed, and has ended."""

    status = 410
    code = "GONE"


class PayloadTooLarge(ToolboxError):
    """The body is over the limit."""

    status = 413
    code = "PAYLOAD_TOO_LARGE"


class FileReadFailed(ToolboxError):
    """The file system could not deliver (an I/O error)."""

    code = "FILE_READ_FAILED"


class Unavailable(ToolboxError):
    """Not now: draining, or something it needs is missing."""

    status = 503
    code = "SERVICE_UNAVAILABLE"


class InsufficientStorage(ToolboxError):
    """The disk or a quota is full."""

    status = 507
    code = "INSUFFICIENT_STORAGE"


_BY_ERRNO: dict[int, type[ToolboxError]] = {
    errno.ENOENT: FileMissing,
    errno.EACCES: FileAccessDenied,
    errno.EPERM: FileAccessDenied,
    errno.EROFS: FileAccessDenied,
    errno.EEXIST: Conflict,
    errno.ENOTEMPTY: Conflict,
    errno.EBUSY: Conflict,
    errno.ETXTBSY: Conflict,
    errno.ENOTDIR: InvalidPath,
    errno.EISDIR: InvalidPath,
    errno.ELOOP: InvalidPath,
    errno.ENAMETOOLONG: InvalidPath,
    errno.EINVAL: InvalidPath,
    errno.ENXIO: InvalidPath,
    errno.ENOSPC: InsufficientStorage,
    errno.EDQUOT: InsufficientStorage,
    errno.EFBIG: InsufficientStorage,
    errno.EIO: FileReadFailed,
    errno.EMFILE: Unavailable,
    errno.ENFILE: Unavailable,
    errno.EAGAIN: Unavailable,
    errno.ENOMEM: Unavailable,
}


def from_os_error(error: OSError) -> ToolboxError | None:
    """Return what a file-system error means on the wire, or None for one that has no such meaning."""
    kind = _BY_ERRNO.get(error.errno or 0)
    if kind is None:
        return None
    name = error.filename2 or error.filename
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    text = (error.strerror or "error").lower()
    return kind(f"{text}: {_printable(name)}" if isinstance(name, str) else text)


def _printable(path: str) -> str:
    """Return `path` without lone surrogates, so that it can be JSON."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
