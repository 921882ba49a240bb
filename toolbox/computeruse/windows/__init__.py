"""Displays, windows and the clipboard."""
