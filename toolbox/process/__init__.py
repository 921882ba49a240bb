"""One-shot commands."""
