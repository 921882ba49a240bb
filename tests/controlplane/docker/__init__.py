"""Tests of the docker driver, with an engine of this machine."""
