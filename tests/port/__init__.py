"""Tests of `/port`."""
