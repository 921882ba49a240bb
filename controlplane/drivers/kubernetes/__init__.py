"""The `kubernetes` driver: a sandbox is a Sandbox of agent-sandbox, or a claim on a warm pool of it."""
