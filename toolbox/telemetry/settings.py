"""What the environment says about telemetry: OpenTelemetry's own variables, and those of the reference daemon."""

from collections.abc import Mapping
from typing import Self

import msgspec

PREFIX = "OTEL_"
_ENDPOINT = "OTEL_EXPORTER_OTLP{}_ENDPOINT"
_EXPORTER = "OTEL_EXPORTER_"
_SERVICE = "OTEL_SERVICE_NAME"
_REFERENCE_ENDPOINT = "DAYTONA_OTEL_ENDPOINT"
_REFERENCE_LABELS = "DAYTONA_SANDBOX_OTEL_EXTRA_LABELS"
_REFERENCE_ATTRIBUTES = {
    "DAYTONA_ORGANIZATION_ID": "daytona_organization_id",
    "DAYTONA_REGION_ID": "daytona_region_id",
    "DAYTONA_SANDBOX_SNAPSHOT": "daytona_snapshot",
}


class Settings(msgspec.Struct, frozen=True):
    """What is exported. All else (headers, timeouts, sampling, sizes) OpenTelemetry's SDK reads by itself."""

    traces: bool = False
    metrics: bool = False
    endpoint: str | None = None
    """Base URL where `/init` begins the export, as in the reference daemon; None: it begins at once."""
    named: bool = False
    """The environment names the service."""
    unusable: str | None = None
    """Why nothing is exported although an endpoint is configured."""
    attributes: Mapping[str, str] = {}
    """Attributes of the resource, beside those that the SDK reads by itself."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables of `environ`."""
        both, traces, metrics = (environ.get(_ENDPOINT.format(each)) for each in ("", "_TRACES", "_METRICS"))
        reference = environ.get(_REFERENCE_ENDPOINT)
        if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not (both or traces or metrics or reference):
            return cls()
        attributes = {
            name: environ[variable] for variable, name in _REFERENCE_ATTRIBUTES.items() if variable in environ
        }
        pairs = (pair.partition("=") for pair in environ.get(_REFERENCE_LABELS, "").split(","))
        at_init = reference if not (both or traces or metrics) else None
        return cls(
            traces=bool(both or traces or at_init) and environ.get("OTEL_TRACES_EXPORTER") != "none",
            metrics=bool(both or metrics or at_init) and environ.get("OTEL_METRICS_EXPORTER") != "none",
            endpoint=at_init,
            named=_SERVICE in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""),
            unusable=_unusable(environ),
            attributes=attributes | {name.strip(): value.strip() for name, equals, value in pairs if equals},
        )

    @property
    def enabled(self) -> bool:
        """Whether anything is to be exported."""
        return self.traces or self.metrics


def _unusable(environ: Mapping[str, str]) -> str | None:
    protocols = {
        environ.get(f"OTEL_EXPORTER_OTLP{signal}_PROTOCOL", "http/protobuf") for signal in ("", "_TRACES", "_METRICS")
    }
    other = protocols - {"http/protobuf"}
    return f"the protocol is http/protobuf, not {other.pop()}" if other else None


def redirected(variables: Mapping[str, str], endpoint: str) -> dict[str, str]:
    """Return variables with another endpoint; the keys and certificates of the one before are not for it."""
    kept = {name: value for name, value in variables.items() if not name.startswith(_EXPORTER)}
    return {**kept, _ENDPOINT.format(""): endpoint}


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that hold for the daemons of sandboxes too: all but the service's name."""
    if not Settings.load(environ).enabled:
        return {}
    return {name: value for name, value in environ.items() if name.startswith(PREFIX) and name != _SERVICE}
