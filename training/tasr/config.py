"""Settings of TASR's training, frozen and saved beside every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..config import RunOptions, TrainConfig
from .losses import X0Formula
from .rewards import CLIP_IQA

CONTROL, BOTH = 1, 2
STAGES = {"stage II": BOTH, "stage I": CONTROL}
"""Stages: the ControlNet alone, then ControlNet and adapters in turns (TASR, section 3.3)."""

BY_TIME, INVERSE, EVERYWHERE, REWARD_ONLY = "by timestep", "inverse", "everywhere", "reward only"
SCHEDULES = (BY_TIME, INVERSE, EVERYWHERE, REWARD_ONLY)
"""Where the picture losses count: the method, and the ablations of TASR's Table 4. The paper does not say what it turns round
in the inverse order; here timestep t has the losses that 999 - t has in the method."""

ADAPTERS, CONTROLNET = "adapters", "ControlNet, without adapters"
LEARNERS = (ADAPTERS, CONTROLNET)
"""What the reward moves: the method, and the ablation that the paper calls reward hacking (section 4.4)."""


@dataclass(frozen=True)
class TasrConfig(TrainConfig):
    """Defaults are the paper's, except where a comment says that they are the public code's."""

    stage: int = BOTH
    batch: int = 4
    lr: float = 1e-5
    weight_decay: float = 1e-2
    seed: int = 0
    adapter_every: int = 5
    """Every n-th step trains the adapters, the others the ControlNet: 5 in the public code, 2 is turns ("alternate")."""
    l1_below: int = 800
    """t_1 of the paper; 1000 is everywhere."""
    reward_until: int = 200
    """t_clipiqa of the paper, included; 999 is everywhere."""
    loss_schedule: str = BY_TIME
    reward_moves: str = ADAPTERS
    sees_time: bool = True
    """Off: the gates do not know the timestep, an ablation of the paper."""
    l1_weight: float = 0.01
    """0.1 in the public code's configuration, as the reward's."""
    reward_weight: float = 0.01
    pull_weight: float = 0.0
    """Weight of the adapters' squared distance from the plain ControlNet (ours)."""
    x0_formula: str = X0Formula.CORRECT.value
    prompt_dropping: float = 0.5
    """Share of samples whose prompt is replaced by the empty one (public code)."""
    decode_cells: int = 32
    """Side of the random latent crop that is decoded for the picture losses (ours, for memory); 0: all of it."""

    def __post_init__(self) -> None:
        if self.stage not in (CONTROL, BOTH):
            raise ValueError(f"Got stage {self.stage}: expected 1 (ControlNet) or 2 (ControlNet and adapters).")
        if self.batch < 1 or self.adapter_every < 1:
            raise ValueError(
                f"Got batch {self.batch} and adapter_every {self.adapter_every}: expected both to be at least 1."
            )
        if not (0 <= self.reward_until <= 999 and 1 <= self.l1_below <= 1000):
            raise ValueError(
                f"Got the reward until timestep {self.reward_until} and L1 below {self.l1_below}: expected 0 to 999 and 1 to "
                "1000; the paper has 200 and 800."
            )
        if self.loss_schedule not in SCHEDULES or self.reward_moves not in LEARNERS:
            raise ValueError(
                f"Got the loss schedule {self.loss_schedule!r} and a reward that moves {self.reward_moves!r}: expected one of "
                f"{', '.join(SCHEDULES)}; and one of: {'; '.join(LEARNERS)}."
            )
        X0Formula(self.x0_formula)

    @property
    def has_adapters(self) -> bool:
        return self.stage == BOTH and self.reward_moves == ADAPTERS

    def trains_adapters(self, step: int) -> bool:
        """Whose turn step (from 0) is."""
        return self.has_adapters and step % self.adapter_every == 0

    def reward_times(self, count: int) -> range:
        """Timesteps of 0..count - 1 at which the reward counts, of which the adapters' turns draw."""
        if self.loss_schedule == EVERYWHERE:
            return range(count)
        if self.loss_schedule == INVERSE:
            return range(max(0, count - 1 - self.reward_until), count)
        return range(min(count, self.reward_until + 1))

    def has_l1(self, t: Tensor, count: int) -> Tensor:
        """Which of the timesteps (B,) have the pixel error, the ends of its interval left out as in the public code."""
        if self.loss_schedule == REWARD_ONLY:
            return t < 0
        if self.loss_schedule == EVERYWHERE:
            return t >= 0
        seen = count - 1 - t if self.loss_schedule == INVERSE else t
        return (seen > 0) & (seen < self.l1_below)


@dataclass(frozen=True)
class TasrOptions(RunOptions):
    """What a run of Train Time-Aware Adapter is told beyond its config."""

    name: str = "tasr_adapter"
    degradation: str = "tasr"
    precision: str = "bfloat16"
    design: str = "lite"
    reward: str = CLIP_IQA
