"""Computer use: an X11 desktop that an agent sees and drives."""
