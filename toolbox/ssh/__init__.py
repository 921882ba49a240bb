"""SSH into the sandbox: shells, commands, files and forwarded ports."""
