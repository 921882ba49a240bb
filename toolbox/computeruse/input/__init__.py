"""Mouse and keyboard."""
