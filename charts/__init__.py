"""Chart extraction: code that runs inside the user's interpreter."""
