"""Displays and windows."""
