"""StableSR's training of the time-aware encoder and the SFT layers."""
