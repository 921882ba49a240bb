"""The speed card."""
