"""What `dev.py` does: environment, host, demo, golden vectors. Never imported by the nodes."""
