"""The daemon: one aiohttp process that serves a sandbox's files, processes and system facts."""

__version__ = "0.1.0"
