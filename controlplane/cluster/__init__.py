"""A Kubernetes cluster as what the control plane stands on: its objects are the memory of all replicas."""
