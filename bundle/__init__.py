"""Makes the relocatable bundle: the daemon with its own Python, loader and libraries, for any Linux."""
