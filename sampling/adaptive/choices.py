"""What nodes offer of region sampling, apart from what does it: the host reads all schemas at its start."""

from enum import Enum

STEPPER_NAMES = ("euler", "ddim", "euler_ancestral", "ddpm", "dpmpp_2m")
"""The steppers that exist in at least one noise space, in the order of a widget."""


class MergeMode(str, Enum):
    """How predictions of overlapping regions become one canvas; always the window-weighted mean.

    AGGREGATE: after every step, all regions being in step, then one step of the canvas (StableSR, section 3.3).
    FINAL: every region on its own, once at the end (AdaDiffSR, section 3.4).
    CONSENSUS: regions at their own levels; after each round of calls the x0 of active and finished regions are averaged
    where they overlap and every active region steps on with its part of that average (ours).
    """

    AGGREGATE = "aggregate"
    FINAL = "final"
    CONSENSUS = "consensus"


class GainRule(str, Enum):
    """What decides the next jump. PAPER: the state machine of `dynamic`. STEP_SIZE: the estimated error of the jump."""

    PAPER = "paper"
    STEP_SIZE = "step_size"


class JumpRule(str, Enum):
    """How the class of a call chooses among the four jumps.

    LADDER: stable regions climb one rung a call; growing ones step down one, or to the first where they grow fast.
    PHASE_CLASS: growing takes the first jump below t_half and the second above, stable the third above and the fourth below.
    MAGNITUDE: by the greatest rate in units of tau: above 4, above 2, above 1, the rest.
    """

    LADDER = "ladder"
    PHASE_CLASS = "phase_class"
    MAGNITUDE = "magnitude"


class GrowingRule(str, Enum):
    """When a region counts as growing once quality counts too (AdaDiffSR, section 3.3).

    BOTH: closeness to the input and quality rise, as in the paper. EITHER: quality rises, or the region drifts away from the
    input (ours), which spends more steps.
    """

    BOTH = "both"
    EITHER = "either"
