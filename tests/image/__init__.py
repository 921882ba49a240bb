"""The container image as its users run it."""
