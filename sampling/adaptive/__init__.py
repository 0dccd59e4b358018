"""Sampling of a canvas whose regions stand at their own noise levels: pure torch, no host."""
