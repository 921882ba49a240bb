"""What a sandbox is made of: each driver starts and ends daemons in its own way."""
