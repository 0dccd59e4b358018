"""One-step distillation of a residual-shift teacher: TAD-SR (arXiv 2408.07476), its ablations, SinSR; and ResShift's stage 0.

Unlike the public code, the discriminator and both optimisers are saved too. `config` holds the settings, `steps` the terms of
the loss, `base` what a model must offer. A run in four lines, for networks of either family:

    run = DistillRun(distill_state(teacher, copy.deepcopy(teacher.network), settings), settings, teacher, source)
    train(run, 1000)
    save_run(run, path); resume_run(run, path)
    weights = run.state.ema.averaged()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..checkpoint import TrainState
from ..data import PairSource
from ..ema import Ema
from ..optim import learning_rate, make_adamw, make_optimizers, set_learning_rate
from ..runs import TrainingRun, add_share, backward, clear, closed, finish_step, new_state, take_step
from .base import Denoiser, LatentModel
from .config import ADAMW, OVER_POSITIONS, TIME_AWARE, DistillSettings
from .discriminator import DiscriminatorConfig, TimeAwareDiscriminator
from .losses import discriminator_hinge, generator_hinge
from .steps import (
    DistillBatch,
    prepare,
    stage_zero_loss,
    student_losses,
    student_prediction,
    teacher_features,
    weights_of,
)

PHASE = "distillation"


@dataclass
class DistillRun(TrainingRun):
    """`state.model` has the trained networks under `student` and, if there is one, `discriminator`."""

    config: DistillSettings
    teacher: LatentModel
    source: PairSource | None = None
    """Where the batches of `train_step` come from."""

    @property
    def student(self) -> Denoiser:
        return cast("Denoiser", self.state.model.get_submodule("student"))

    @property
    def discriminator(self) -> TimeAwareDiscriminator | None:
        if not self.config.adversarial_part:
            return None
        return cast("TimeAwareDiscriminator", self.state.model.get_submodule("discriminator"))

    @property
    def student_optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return self.state.optimizers[: len(self.state.optimizers) - (self.discriminator is not None)]

    @property
    def device(self) -> torch.device:
        return next(self.student.parameters()).device

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.config.seed,)

    def recipe(self) -> str:
        return self.config.text(about=self.about)

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """A step on a batch of the source."""
        if self.source is None:
            raise ValueError("This run has no source of pictures: expected one; set it, or call distill_step.")
        hr, lr = (side.to(self.device) * 2 - 1 for side in self.source.batch(generator, self.config.batch))
        return distill_step(self, hr, lr, generator)


def distill_state(teacher: LatentModel, student: Denoiser, settings: DistillSettings) -> TrainState:
    """Step 0 from a student's start, in the paper a copy of the teacher; the teacher is frozen here.

    Both networks should be on one device and in float32. The student must not be the teacher itself.
    """
    if student is teacher.network:
        raise ValueError("The student is the teacher itself: expected a copy of it (copy.deepcopy) or another network.")
    teacher.network.requires_grad_(False).eval()
    student.requires_grad_(True).train()
    if settings.optimizer == ADAMW:
        optimizers: tuple[torch.optim.Optimizer, ...] = (make_adamw(student, settings.lr),)
    else:
        optimizers = make_optimizers(student, settings.lr)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(not (settings.frozen and name.startswith(settings.frozen)))
    model = nn.ModuleDict({"student": student})
    if settings.adversarial_part:
        model["discriminator"] = make_discriminator(teacher, settings)
        optimizers = (*optimizers, make_adamw(model["discriminator"], settings.discriminator_lr))
    return new_state(PHASE, model, optimizers, Ema(student, settings.ema_decay))


def make_discriminator(teacher: LatentModel, settings: DistillSettings) -> TimeAwareDiscriminator:
    """A fresh, blind discriminator for the teacher's feature maps (TAD-SR, section IV-B), from the seed."""
    channels = teacher.network.config.tap_channels(settings.taps)
    # The published embedding is as wide as the narrowest map.
    config = DiscriminatorConfig.for_channels(channels, embed_dim=min(channels), c_dim=settings.discriminator_width)
    weight = next(teacher.network.parameters())
    network = TimeAwareDiscriminator(config, device=weight.device, dtype=weight.dtype)
    network.reset_parameters(torch.Generator().manual_seed(settings.seed))
    return network.train()


@dataclass(frozen=True)
class StudentForward:
    """The student's prediction for some images, and the discriminator's view of it."""

    batch: DistillBatch
    share: float
    """Of the whole batch."""
    prediction: Tensor
    sinsr: dict[str, Tensor]
    features: list[Tensor]


def distill_step(
    run: DistillRun,
    hr: Tensor,
    lr: Tensor,
    generator: torch.Generator,
    *,
    noise: Tensor | None = None,
    target: Tensor | None = None,
) -> dict[str, float]:
    """The discriminator's step, then the student's, then the average's (TAD-SR, algorithm 1); returns named numbers.

    hr (B, 3, H, W) and lr (B, 3, H / scale, W / scale) in [-1, 1] on the networks' device; generator on the CPU. noise and
    the teacher's target for it may be given by who has them already. ValueError if a loss is not finite: all networks but the
    discriminator still hold the values of the step before.
    """
    settings, state, weights = run.config, run.state, weights_of(run.config)
    batch = prepare(settings, run.teacher, hr, lr, generator, noise=noise, target=target)
    parts = batch.split(settings.microbatch)
    # A whole batch has one graph for both steps. Parts are computed twice, without a graph for the discriminator.
    whole = student_forward(run, batch, 1.0) if len(parts) == 1 else None
    numbers: dict[str, float] = {}
    clear(state.optimizers)
    if run.discriminator is not None:
        for part, share in parts:
            _learn_to_judge(run, whole or student_forward(run, part, share, learn=False), numbers)
        take_step(state.optimizers[-1:])
    set_learning_rate(
        run.student_optimizers, learning_rate(settings.lr, state.step, settings.warmup, settings.cosine_steps)
    )
    with closed(run.discriminator):
        for part, share in parts:
            forward = whole or student_forward(run, part, share)
            losses, beside = student_losses(settings, run.teacher, forward.batch, forward.prediction)
            losses |= {name: value.mean() for name, value in forward.sinsr.items()}
            if forward.features:
                fakes = judged(run, forward.batch, forward.features)
                losses["adversarial"] = torch.stack([generator_hinge(fake).mean() for fake in fakes]).mean()
            if settings.resshift:
                losses["resshift"] = stage_zero_loss(run.student, run.teacher.schedule, forward.batch)
            # The score's value means nothing (`gradient_as_loss`).
            shown = {name: float(value.detach()) for name, value in losses.items() if name != "score"} | beside
            total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()  # TAD-SR, eq. 13
            backward(state, total, shown, share)
            add_share(numbers, shown, share)
    norm = take_step(run.student_optimizers, run.student.parameters(), settings.clip_norm)
    finish_step(state, len(hr))
    return {**numbers, "norm": norm} if settings.clip_norm else numbers


def student_forward(run: DistillRun, batch: DistillBatch, share: float, *, learn: bool = True) -> StudentForward:
    """What the losses look at, with a graph where the student learns from it."""
    settings = run.config
    if not settings.uses_student_step:
        return StudentForward(batch, share, batch.x, {}, [])
    with torch.set_grad_enabled(learn):
        prediction, sinsr = student_prediction(settings, run.student, run.teacher.schedule, batch)
        if run.discriminator is None:
            return StudentForward(batch, share, prediction, sinsr, [])
        some = slice(0, settings.teacher_batch or None)
        features = teacher_features(settings, run.teacher, batch.part(some), prediction[some])
    return StudentForward(batch, share, prediction, sinsr, features)


def judged(run: DistillRun, batch: DistillBatch, features: list[Tensor]) -> list[Tensor]:
    """The discriminator's logits (B, K), all at once or of each head; the plain one sees time 0 whatever it is."""
    times = batch.draw.adversarial_times[: len(features[0])]
    seen = times if run.config.adversarial == TIME_AWARE else torch.zeros_like(times)
    discriminator = cast("TimeAwareDiscriminator", run.discriminator)
    return (
        [discriminator(features, seen)]
        if run.config.logit_mean == OVER_POSITIONS
        else discriminator.head_logits(features, seen)
    )


def _learn_to_judge(run: DistillRun, forward: StudentForward, numbers: dict[str, float]) -> None:
    """Adds gradients of the hinge loss on frozen features of truth and detached prediction (TAD-SR, eq. 11)."""
    some = forward.batch.part(slice(0, run.config.teacher_batch or None))
    with torch.no_grad():
        real = teacher_features(run.config, run.teacher, some, some.x0)
    reals, fakes = judged(run, some, real), judged(run, some, [features.detach() for features in forward.features])
    loss = torch.stack([discriminator_hinge(*logits).mean() for logits in zip(reals, fakes)]).mean()
    shown = {"discriminator": float(loss.detach())}
    backward(run.state, loss, shown, forward.share)
    add_share(numbers, shown, forward.share)
