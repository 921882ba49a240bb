"""Traces and metrics sent to an OpenTelemetry collector, where one is configured."""
