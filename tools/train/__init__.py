"""Training recipes that need the host's networks: one module a recipe, found by `dev.py train`."""
