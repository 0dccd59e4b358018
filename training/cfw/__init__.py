"""StableSR's training of the fusion layers of its autoencoder (CFW)."""
