"""StableSR under the host: loading, the patch of a MODEL, and CFW decoding."""
