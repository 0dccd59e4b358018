"""Networks in pure torch: they are built from a state dict and never import the host."""
