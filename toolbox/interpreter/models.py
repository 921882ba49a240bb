"""Wire models of `/process/interpreter`."""

from datetime import datetime
from typing import Annotated, Any

import msgspec

from charts.models import Chart
from toolbox.web.wire import Model

DEFAULT_TIMEOUT = 600
"""Seconds, of a run that names no timeout (contract, section 5)."""


class CreateContextRequest(Model):
    """What a context is to be."""

    cwd: str | None = None
    language: str | None = None
    """python, or the name of a kernel that is installed."""


class InterpreterContext(Model):
    """A context."""

    id: str
    cwd: str
    created_at: datetime
    active: bool
    language: str


class ListContextsResponse(Model):
    """All contexts but the default one."""

    contexts: list[InterpreterContext]


class DeleteContextResponse(Model):
    """A sentence."""

    message: str


class InterruptResponse(Model):
    """Whether something ran."""

    interrupted: bool


class Language(Model):
    """A language that contexts can have."""

    name: str
    display_name: str
    language: str
    path: str
    """The interpreter of Python, the directory of the kernel otherwise."""


class LanguagesResponse(Model):
    """Python first."""

    languages: list[Language]


class ExecuteRequest(Model):
    """The one message of a client: code to run."""

    code: str = ""
    context_id: str | None = None
    """The default context if absent."""
    timeout: Annotated[int, msgspec.Meta(le=2**31)] | None = None
    """Whole seconds, 0 for none; 600 if absent."""
    envs: dict[str, str] = {}
    """Environment variables for this run only."""


class Message(msgspec.Struct, rename="camel", kw_only=True):
    """A message to the client. The first five fields are always there; clients ignore types that they do not know."""

    type: str
    """stdout, stderr, error, control (text: completed, interrupted or restarted), result, display or chart."""
    text: str = ""
    name: str = ""
    value: str = ""
    traceback: str = ""
    data: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    """Of result and display: the value by MIME type, binary ones as base64."""
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    display_id: str | msgspec.UnsetType = msgspec.UNSET
    update: bool | msgspec.UnsetType = msgspec.UNSET
    """It replaces what was displayed under that id."""
    chart: Chart | msgspec.UnsetType = msgspec.UNSET
    """A figure of matplotlib, in the JSON of code-run."""
    omitted: list[str] | msgspec.UnsetType = msgspec.UNSET
    """What of `data` or `chart` was too large to be sent."""
