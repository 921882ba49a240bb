"""The clipboard: what programs offer to be pasted, and what the daemon does."""
