"""StableSR's trained parts: encoder and SFT layers, and CFW."""
