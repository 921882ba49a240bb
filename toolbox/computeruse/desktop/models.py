"""Wire models of the desktop's life (contract, computer-use.md section 1)."""

from toolbox.web.wire import Model


class StatusResponse(Model):
    """active, partial or inactive."""

    status: str
