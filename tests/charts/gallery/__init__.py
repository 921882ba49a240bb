"""Plots as people make them, each with what its chart must say.

A plot is a function that draws and returns what must be reported, put together from the data that it draws. It runs in
the user's interpreter (`run.py`), the older ones too; the comparison is the test's.
"""
