"""StableSR's trained parts."""
