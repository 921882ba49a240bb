"""A control plane in a cluster with thousands of sandboxes: a real API server, and pods that are not there."""
