"""What happens to the daemon and the control plane from outside: each time the service is back, and nothing is lost."""
