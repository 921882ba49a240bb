"""Telemetry, received by a real OTLP collector."""
