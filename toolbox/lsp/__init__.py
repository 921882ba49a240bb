"""Language servers: what they know of a project, over HTTP and raw to an editor."""
