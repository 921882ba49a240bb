"""The sandboxes API that the SDKs call first, and a proxy to the daemons of the sandboxes."""
