"""The egress proxy: what sandboxes reach the world through when they have secrets."""
