"""What all that runs in a sandbox finds in its environment."""

from controlplane.drivers.base import Launch

_PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def variables(launch: Launch) -> dict[str, str]:
    """Return the variables of what runs in a sandbox, beside those of its image."""
    proxies = dict.fromkeys(_PROXIES, launch.network.proxy) if launch.network.proxy else {}
    return {**proxies, "DAYTONA_SANDBOX_ID": launch.id, **launch.env}
