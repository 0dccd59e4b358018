"""The only place that touches ComfyUI (with `nodes/`): images, files, memory, progress, MODEL and VAE. No algorithms."""
