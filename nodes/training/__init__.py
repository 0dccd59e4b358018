"""The training nodes."""
