"""Git repositories of the sandbox: native git for what changes or fetches, our own reading where that is quicker."""
