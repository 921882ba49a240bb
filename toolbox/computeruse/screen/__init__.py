"""What is on the screen, as pictures."""
