"""Training runs under the host: bases, data, files, progress and ends."""
