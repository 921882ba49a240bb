"""What is on the screen: as pictures, and as a stream of them."""
