"""Wire models of `/port`."""

from typing import Annotated

import msgspec

from toolbox.web.wire import Model

MAX_WAIT_SECONDS = 3600


class PortList(Model):
    """Ports that are listened on, in ascending order."""

    ports: list[int]


class IsPortInUseResponse(Model):
    """Whether somebody listens."""

    is_in_use: bool


class WaitQuery(Model):
    """How long to wait, in seconds; 0 looks once."""

    timeout: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT_SECONDS)] = 60
