"""Socket types of our own; everything else uses the host's."""

from comfy_api.latest import io

Gain = io.Custom("ADAPTIVESR_GAIN")
"""`host.gain.GainPlan`: how the steps of regions follow from what they gain."""

OneStepSR = io.Custom("ADAPTIVESR_ONE_STEP_SR")
"""`host.one_step.OneStepSR`: a residual-shift denoiser with its autoencoder and schedule."""
