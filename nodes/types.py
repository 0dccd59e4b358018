"""Socket types of our own; everything else uses the host's."""

from comfy_api.latest import io

OneStepSR = io.Custom("ADAPTIVESR_ONE_STEP_SR")
"""`host.one_step.OneStepSR`: a residual-shift denoiser with its autoencoder and schedule."""

NoisePredictor = io.Custom("ADAPTIVESR_NOISE_PREDICTOR")
"""`host.noise_predictor.NoisePredictorModel`: the network that predicts InvSR's start noise."""
