"""Which TCP ports of the sandbox somebody listens on, and waiting for one."""
