"""Tests of `/proxy`."""
