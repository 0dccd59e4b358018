"""Settings of one-step distillation, frozen and saved beside every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ..config import RunOptions, TrainConfig

NONE = "none"
SDS, HSD = "sds", "hsd"
SCORES = (NONE, SDS, HSD)
PLAIN, TIME_AWARE = "plain", "time_aware"
DISCRIMINATORS = (NONE, PLAIN, TIME_AWARE)
TEACHER, TRUTH = "teacher", "truth"
ADAMW, MUON = "adamw", "muon"
OVER_POSITIONS, OVER_HEADS = "over positions", "over heads"
LOGIT_MEANS = (OVER_POSITIONS, OVER_HEADS)
PAPER = "paper"
FACE_CHANNELS = 8
"""Latent channels of face models (VQ-f8)."""


class ScoreForm(Enum):
    """Which form of the score losses: the paper's, or what TAD-SR's public code computes.

    The code perturbs with noise uniform on [0, 1) instead of Gaussian, and divides the perturbed latent by its input
    deviation twice before the teacher sees it. Both forms are held to golden vectors in tests/training/test_distillation_losses.py.
    """

    PAPER = "paper"
    CODE = "code"


@dataclass(frozen=True)
class TADWeights:
    """Weights of the score loss (lambda_1) and the adversarial loss (lambda_2) in TAD-SR, eq. 13."""

    score: float
    adversarial: float


# The released configurations; the paper's own numbers are not known to us.
SUPER_RESOLUTION_WEIGHTS = TADWeights(score=1.0, adversarial=0.02)
FACE_WEIGHTS = TADWeights(score=0.1, adversarial=0.2)


@dataclass(frozen=True)
class DistillSettings(TrainConfig):
    """What is minimised and how. Defaults are TAD-SR's for x4 (section V-A and its released configuration).

    A part whose weight is 0 is left out and costs nothing.
    """

    distill: float = 1.0
    """Weight of the squared distance from the teacher's chain (TAD-SR, eq. 6)."""
    score: str = HSD
    """hsd: high-frequency enhanced score distillation (eqs. 7-8); sds: its ablation; none."""
    score_weight: float = SUPER_RESOLUTION_WEIGHTS.score
    score_form: str = ScoreForm.PAPER.value
    """code: noise uniform on [0, 1) and a second input scaling, as in the public code; also the discriminator's noise."""
    score_target: str = TEACHER
    score_levels: int = 3
    """The score loss perturbs to indices 0..score_levels-1 (the public code; the paper says small time steps)."""
    adversarial: str = TIME_AWARE
    """plain: the same discriminator and noise, but it is not told the time (our reading of the paper's ablation); none."""
    adversarial_weight: float = SUPER_RESOLUTION_WEIGHTS.adversarial
    inverse: float = 0.0
    """Weight of SinSR's inverse loss (SinSR, eq. 8), at time 0 of the same network."""
    cycle: float = 0.0
    """Weight of SinSR's consistency-preserving loss (SinSR, eq. 10)."""
    resshift: float = 0.0
    """Weight of ResShift's own loss (ResShift, eq. 8) at all times: stage 0, which trains a teacher."""
    fidelity: float = 0.0
    """Weight of the Charbonnier distance from the true latent (ours)."""
    energy: float = 0.0
    """Weight of the local gradient energy's mismatch with the true picture (ours); decodes the prediction."""
    teacher_steps: int = 0
    """Steps of the teacher's chain, both ends of its schedule kept; 0: all, as the paper."""
    random_times: bool = False
    """The student learns at four times instead of the last one only (an option of the public code, off)."""
    lr: float = 5e-5
    discriminator_lr: float = 5e-5
    warmup: int = 5000
    """Steps of the student's linear warm-up; the discriminator has none."""
    cosine_steps: int = 0
    """After the warm-up the rate falls as half a cosine to 1 % at this step (ours); 0: constant."""
    optimizer: str = ADAMW
    """muon: `training.optim`'s for the student (ours), else AdamW with weight decay 0; the discriminator always has AdamW."""
    clip_norm: float = 0.0
    """Greatest norm of the student's gradient (ours); 0: not clipped."""
    ema_decay: float = 0.999
    batch: int = 8
    microbatch: int = 0
    """Images in one forward; gradients are summed over the batch (ours, for memory). 0: the batch."""
    teacher_batch: int = 0
    """Images of the batch that the teacher sees, for what needs it (ours, for time); 0: all."""
    discriminator_width: int = 64
    """Logits per position of a feature map."""
    taps: tuple[int, ...] = ()
    """Which of the teacher's feature maps the discriminator sees, as `features(taps=)` numbers them; none: the network's own choice."""
    frozen: tuple[str, ...] = ()
    """Beginnings of the names of student parameters that stay."""
    logit_mean: str = OVER_POSITIONS
    """over positions: of all heads at once, so that larger maps weigh more (the public code); over heads: of each head first
    (TAD-SR, eqs. 11-12)."""
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "logit_mean": LOGIT_MEANS,
            "score": SCORES,
            "adversarial": DISCRIMINATORS,
            "score_target": (TEACHER, TRUTH),
            "optimizer": (ADAMW, MUON),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"Got {name} {getattr(self, name)!r}: expected one of {', '.join(allowed)}.")
        ScoreForm(self.score_form)
        if self.batch < 1 or self.microbatch < 0 or not 0 <= self.teacher_batch <= self.batch:
            raise ValueError(
                f"Got batch {self.batch}, microbatch {self.microbatch} and teacher_batch {self.teacher_batch}: expected a batch "
                "of at least 1, and the others 0 or up to it."
            )
        if self.microbatch and self.teacher_batch:
            raise ValueError("Got microbatch and teacher_batch: expected one of them; set the other to 0.")
        if self.teacher_steps == 1 or self.teacher_steps < 0 or self.score_levels < 1:
            raise ValueError(
                f"Got teacher_steps {self.teacher_steps} and score_levels {self.score_levels}: expected a chain of 2 steps or "
                "more (0: all), and at least one level."
            )
        if self.uses_sinsr and (self.random_times or self.teacher_batch):
            raise ValueError(
                "Got SinSR's losses with random_times or teacher_batch: expected the last time and the whole batch, which is what "
                "they are defined for; set these to off and 0."
            )
        weights = (self.distill, self.score_part, self.adversarial_part, self.inverse, self.cycle, self.resshift)
        if min(*weights, self.fidelity, self.energy) < 0 or not any((*weights, self.fidelity, self.energy)):
            raise ValueError(
                "Got no loss with a weight above 0, or one below: expected weights of 0 and more, not all 0."
            )

    @property
    def score_part(self) -> float:
        """The score loss's weight, 0 where it is off."""
        return 0.0 if self.score == NONE else self.score_weight

    @property
    def adversarial_part(self) -> float:
        """The adversarial loss's weight, 0 where it is off."""
        return 0.0 if self.adversarial == NONE else self.adversarial_weight

    @property
    def uses_sinsr(self) -> bool:
        return bool(self.inverse or self.cycle)

    @property
    def uses_chain(self) -> bool:
        """Whether anything needs the teacher's chain."""
        return bool(
            self.distill or self.inverse or (self.score_part and self.score == HSD and self.score_target == TEACHER)
        )

    @property
    def uses_student_step(self) -> bool:
        """Whether anything needs the student's step from the prior."""
        clean = (self.distill, self.score_part, self.adversarial_part, self.fidelity, self.energy)
        return self.uses_sinsr or any(clean)


@dataclass(frozen=True)
class DistillOptions(RunOptions):
    """What a run of Distill One-Step SR is told beyond its settings."""

    name: str = "distilled"
    crop: int = 256
    degradation: str = "tad_sr"
    samples_every: int = 500
    reduced: bool = False
    """Whole squares of the pictures, reduced to the crop, in place of crops."""
    metrics: str = "psnr ssim nlpd gmsd"


VARIANTS: Mapping[str, Mapping[str, object]] = {
    "TAD-SR": {"score": HSD, "adversarial": TIME_AWARE},
    "TAD-SR, plain discriminator": {"score": HSD, "adversarial": PLAIN},
    "distillation + HSD": {"score": HSD, "adversarial": NONE},
    "distillation + SDS": {"score": SDS, "adversarial": NONE},
    "SDS + time-aware discriminator": {"score": SDS, "adversarial": TIME_AWARE},
    "SDS + plain discriminator": {"score": SDS, "adversarial": PLAIN},
    "distillation": {"score": NONE, "adversarial": NONE},
    "SinSR": {"score": NONE, "adversarial": NONE, "inverse": 1.0, "cycle": 1.0},
    "ResShift teacher": {"score": NONE, "adversarial": NONE, "distill": 0.0, "resshift": 1.0},
}
"""The method, its ablations (TAD-SR, section V-C) and its forerunners, as changes of the defaults."""


def variant(name: str, settings: DistillSettings | None = None) -> DistillSettings:
    """The settings (default: TAD-SR's) changed to a variant."""
    changes: dict[str, object] = dict(VARIANTS[name])
    return replace(settings or DistillSettings(), **changes)  # type: ignore[arg-type]


def paper_settings(latent_channels: int) -> Mapping[str, object]:
    """TAD-SR's settings and options for teachers of this kind, over the inputs of a node (section V-A, released configurations).

    8 latent channels are a face model's, which has weights, pictures and a batch of its own.
    """
    face = latent_channels == FACE_CHANNELS
    weights = FACE_WEIGHTS if face else SUPER_RESOLUTION_WEIGHTS
    same: dict[str, object] = {
        "distill": 1.0, "score_weight": weights.score, "score_levels": 3, "score_form": ScoreForm.PAPER.value,
        "adversarial_weight": weights.adversarial, "fidelity": 0.0, "energy": 0.0, "teacher_steps": 0, "lr": 5e-5,
        "discriminator_lr": 5e-5, "warmup": 5000, "ema_decay": 0.999, "random_times": False, "reduced": True,
        "steps": 30_000,
    }  # fmt: skip
    if face:
        return {**same, "batch": 7, "crop": 512, "degradation": "gfpgan_face"}
    return {**same, "batch": 8, "crop": 256, "degradation": "tad_sr"}
