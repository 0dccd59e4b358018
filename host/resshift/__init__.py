"""The ResShift family under the host: loading, MODEL and VAE patchers, upscaling."""
