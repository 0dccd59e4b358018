"""The region samplers under the host: conditioning cropped to regions, the denoiser, progress, heat maps."""
