"""Terminals: a shell on a pseudo-terminal with any number of clients."""
