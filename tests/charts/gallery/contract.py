"""What the two sides agree on: the program that draws, and what reads its answer."""

MARK = "plot: "
"""How the text of the figure begins that comes before each plot, so that every chart has an owner."""
SOMETHING = "something"
"""Stands in what is expected for a value that only the library knows which computes it."""
