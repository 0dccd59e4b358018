"""AdaDiffSR's trained parts: the gain regressor (MMLE) and feature injection (PFJ)."""
