"""Socket types of our own; everything else uses the host's."""

from comfy_api.latest import io

Gain = io.Custom("ADAPTIVESR_GAIN")
"""`host.gains.plan.GainPlan`: how the steps of regions follow from what they gain."""

GainModels = io.Custom("ADAPTIVESR_GAIN_MODELS")
"""`host.gains.models.LoadedGainModels`: AdaDiffSR's trained parts and what their file says about them."""

OneStepSR = io.Custom("ADAPTIVESR_ONE_STEP_SR")
"""`host.resshift.loading.OneStepSR`: a residual-shift denoiser with its autoencoder and schedule."""

NoisePredictor = io.Custom("ADAPTIVESR_NOISE_PREDICTOR")
"""`host.invsr.loading.NoisePredictorModel`: the network that predicts InvSR's start noise."""

StableSR = io.Custom("ADAPTIVESR_STABLESR")
"""`host.stablesr.loading.LoadedStableSR`: a time-aware encoder and SFT layers for a Stable Diffusion 2.1 MODEL."""

CFW = io.Custom("ADAPTIVESR_CFW")
"""`host.stablesr.cfw.LoadedCFW`: fusion layers between the encoder and the decoder of a KL VAE."""

TimeAwareAdapter = io.Custom("ADAPTIVESR_TIME_AWARE_ADAPTER")
"""`host.control.parts.TimeAwarePart`: trained gates of a ControlNet."""
