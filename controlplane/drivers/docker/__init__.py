"""The `docker` driver: a sandbox is a container of an engine on this machine (Docker, or Podman with the same API)."""
