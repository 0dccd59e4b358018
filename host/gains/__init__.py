"""Gains under the host: estimators for the region samplers, the trained parts, and feature injection."""
