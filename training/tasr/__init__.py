"""TASR: the ControlNet and its time-aware adapters."""
