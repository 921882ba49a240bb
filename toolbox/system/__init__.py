"""The daemon about itself: version, directories, health, metrics, configuration at run time."""
