"""Tests of the charts that are taken out of matplotlib."""
