"""The only code that starts and signals processes."""
