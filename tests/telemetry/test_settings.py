"""What the environment says about telemetry."""

import pytest

from toolbox.config import UpConfig
from toolbox.telemetry.settings import Settings, redirected

HERE = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("environ", "traces", "metrics", "endpoint"),
    [
        ({}, False, False, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False, False, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE}, True, True, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_SDK_DISABLED": "True"}, False, False, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_TRACES_EXPORTER": "none"}, False, True, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE}, True, False, None),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": HERE}, False, True, None),
        ({"DAYTONA_OTEL_ENDPOINT": HERE}, True, True, HERE),
        ({"DAYTONA_OTEL_ENDPOINT": "http://other", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE}, True, False, None),
    ],
)
def test_what_is_exported(environ: dict[str, str], traces: bool, metrics: bool, endpoint: str | None) -> None:
    found = Settings.load(environ)
    assert (found.traces, found.metrics, found.endpoint) == (traces, metrics, endpoint)


def test_what_sandboxes_get_of_it() -> None:
    environ = {
        "HOME": "/tmp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": HERE,
        "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
        "OTEL_SERVICE_NAME": "plane",
    }
    expected = {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE, "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}
    assert UpConfig.load({}, environ).passed_on == expected
    del environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert UpConfig.load({}, environ).passed_on == {}


def test_another_collector_gets_no_keys_of_the_first() -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE,
        "OTEL_EXPORTER_OTLP_HEADERS": "key=secret",
        "OTEL_TRACES_SAMPLER": "always_on",
        "TOOLBOX_SHELL": "/bin/sh",
    }
    assert redirected(variables, "http://other") == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other",
        "OTEL_TRACES_SAMPLER": "always_on",
        "TOOLBOX_SHELL": "/bin/sh",
    }
