"""A base whose optimal denoiser is known in closed form, so that every deviation is the sampler's or the policy's."""
