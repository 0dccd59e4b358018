"""Noise schedules, samplers and noise: pure torch, no host."""
