"""InvSR under the host: the noise predictor, start noise, upscaling."""
