"""InvSR: the noise predictor."""
