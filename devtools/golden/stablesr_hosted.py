"""Golden checks of StableSR inside the host's networks."""

from __future__ import annotations

from .stablesr_cfw import CHECKS as CFW_CHECKS
from .vectors import Checks

CHECKS: Checks = {**CFW_CHECKS}
