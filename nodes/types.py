"""Socket types of our own; everything else uses the host's."""

from comfy_api.latest import io

OneStepSR = io.Custom("ADAPTIVESR_ONE_STEP_SR")
"""`host.one_step.OneStepSR`: a residual-shift denoiser with its autoencoder and schedule."""

TimeAwareAdapter = io.Custom("ADAPTIVESR_TIME_AWARE_ADAPTER")
"""`host.time_aware_parts.TimeAwarePart`: trained gates of a ControlNet."""
