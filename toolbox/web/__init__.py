"""HTTP mechanics: the only code that knows requests, headers and status codes."""
