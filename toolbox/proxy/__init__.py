"""The way to the HTTP servers that run in the sandbox."""
