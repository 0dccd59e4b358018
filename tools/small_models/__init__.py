"""Small model files in the published layouts, made here, for tests and trials."""
