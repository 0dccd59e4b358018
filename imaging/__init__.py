"""Image operations on (B, C, H, W) tensors: tiles, colour, resizing, degradation."""
