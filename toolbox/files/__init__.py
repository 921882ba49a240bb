"""The sandbox's files: list, inspect, change, upload and download them."""
