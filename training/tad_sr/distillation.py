"""One-step distillation of a residual-shift teacher: TAD-SR (arXiv 2408.07476), its ablations, SinSR; and ResShift's stage 0.

What happens at step n depends on the seed and n alone, so that a resumed run equals an uninterrupted one bit for bit. Unlike
the public code, the discriminator and both optimisers are saved too. `tad_sr_config` holds the settings, `tad_sr_steps` the
terms, `tad_sr_base` what a model must offer.

A run in four lines, for networks of either family:

    state = make_state(teacher, copy.deepcopy(teacher.network), settings)
    numbers = train_step(state, hr, lr, generator_for(settings.seed, state.train.step))
    save_run(state, path); resume_run(state, path)
    weights = averaged(state)
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..checkpoint import TrainState, load_checkpoint, save_checkpoint
from ..ema import Ema
from ..optim import make_optimizers, set_learning_rate
from .base import Denoiser, LatentModel
from .config import ADAMW, TIME_AWARE, DistillSettings
from .discriminator import DiscriminatorConfig, TimeAwareDiscriminator
from .losses import discriminator_hinge, generator_hinge
from .steps import (
    Batch,
    ExtraLoss,
    prepare,
    stage_zero_loss,
    student_losses,
    student_prediction,
    teacher_features,
    weights_of,
)

PHASE = "distillation"


@dataclass
class DistillState:
    """Everything a run holds. `train.model` has the trained networks under `student` and, if there is one, `discriminator`."""

    settings: DistillSettings
    teacher: LatentModel
    train: TrainState
    extra: dict[str, tuple[float, ExtraLoss]] = field(default_factory=dict[str, tuple[float, ExtraLoss]])
    """Further losses of a recipe: name, weight and function."""
    about: str = ""
    """What else a checkpoint must agree in: which networks, which pictures."""

    @property
    def student(self) -> Denoiser:
        return cast("Denoiser", self.train.model.get_submodule("student"))

    @property
    def discriminator(self) -> TimeAwareDiscriminator | None:
        if not self.settings.adversarial_part:
            return None
        return cast("TimeAwareDiscriminator", self.train.model.get_submodule("discriminator"))

    @property
    def student_optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return self.train.optimizers[: len(self.train.optimizers) - (self.discriminator is not None)]


def make_state(teacher: LatentModel, student: Denoiser, settings: DistillSettings) -> DistillState:
    """Step 0 from a student's start, in the paper a copy of the teacher; the teacher is frozen here.

    Both networks should be on one device and in float32. The student must not be the teacher itself.
    """
    if student is teacher.network:
        raise ValueError("The student is the teacher itself: expected a copy of it (copy.deepcopy) or another network.")
    teacher.network.requires_grad_(False).eval()
    student.requires_grad_(True).train()
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(not (settings.frozen and name.startswith(settings.frozen)))
    model = nn.ModuleDict({"student": student})
    if settings.optimizer == ADAMW:
        optimizers: tuple[torch.optim.Optimizer, ...] = (_adamw(student, settings.lr),)
    else:
        optimizers = make_optimizers(student, settings.lr)
    if settings.adversarial_part:
        model["discriminator"] = make_discriminator(teacher, settings)
        optimizers = (*optimizers, _adamw(model["discriminator"], settings.discriminator_lr))
    train = TrainState(PHASE, 0, 0, model, Ema(student, settings.ema_decay), optimizers)
    return DistillState(settings, teacher, train)


def make_discriminator(teacher: LatentModel, settings: DistillSettings) -> TimeAwareDiscriminator:
    """A fresh, blind discriminator for the teacher's feature maps (TAD-SR, section 3.4), from the seed."""
    channels = teacher.network.config.tap_channels(settings.taps)
    # The published embedding is as wide as the narrowest map.
    config = DiscriminatorConfig.for_channels(channels, embed_dim=min(channels), c_dim=settings.discriminator_width)
    weight = next(teacher.network.parameters())
    network = TimeAwareDiscriminator(config, device=weight.device, dtype=weight.dtype)
    network.reset_parameters(torch.Generator().manual_seed(settings.seed))
    return network.train()


def _adamw(network: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.0, foreach=False)


def learning_rate(settings: DistillSettings, step: int) -> float:
    """The student's at a step (from 0): linear warm-up, then constant, or half a cosine down to 1 %.

    The public code sets its rate after the step, so that its very first step has the full rate; ours begins at lr / warmup.
    """
    rising = min(1.0, (step + 1) / max(settings.warmup, 1))
    if not settings.cosine_steps:
        return settings.lr * rising
    place = min(1.0, step / settings.cosine_steps)
    return settings.lr * rising * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * place)))


@dataclass(frozen=True)
class _Forward:
    """The student's prediction for some images, and the discriminator's view of it."""

    batch: Batch
    share: float
    prediction: Tensor
    sinsr: dict[str, Tensor]
    features: list[Tensor]


def train_step(
    state: DistillState,
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
    settings = state.settings
    batch = prepare(settings, state.teacher, hr, lr, generator, noise=noise, target=target)
    size = settings.microbatch or len(hr)
    parts = [batch.part(slice(i, i + size)) for i in range(0, len(hr), size)]
    kept = [_forward(state, batch, 1.0)] if len(parts) == 1 else None

    def forwards(*, learn: bool) -> Iterator[_Forward]:
        """One graph for both steps where the batch is whole; else every part anew, without a graph for the discriminator."""
        yield from kept or (_forward(state, part, len(part.hr) / len(hr), learn=learn) for part in parts)

    numbers = _discriminator_step(state, forwards(learn=False)) if state.discriminator is not None else {}
    numbers |= _student_step(state, forwards(learn=True))
    state.train.step += 1
    state.train.images += len(hr)
    state.train.ema.update(state.student, state.train.step)
    return numbers


def _forward(state: DistillState, batch: Batch, share: float, *, learn: bool = True) -> _Forward:
    settings, schedule = state.settings, state.teacher.schedule
    if not settings.uses_student_step and not state.extra:
        return _Forward(batch, share, batch.x, {}, [])
    with torch.set_grad_enabled(learn):
        prediction, sinsr = student_prediction(settings, state.student, schedule, batch)
        if state.discriminator is None:
            return _Forward(batch, share, prediction, sinsr, [])
        some = slice(0, settings.teacher_batch or None)
        features = teacher_features(settings, state.teacher, batch.part(some), prediction[some])
    return _Forward(batch, share, prediction, sinsr, features)


def _judged(state: DistillState, batch: Batch, features: list[Tensor]) -> Tensor:
    """The discriminator's logits; the plain one is told time 0 whatever it is."""
    times = batch.draw.adversarial_times[: len(features[0])]
    told = times if state.settings.adversarial == TIME_AWARE else torch.zeros_like(times)
    return cast("TimeAwareDiscriminator", state.discriminator)(features, told)


def _discriminator_step(state: DistillState, forwards: Iterator[_Forward]) -> dict[str, float]:
    """Hinge loss on frozen features of truth and detached prediction (TAD-SR, eq. 11)."""
    settings = state.settings
    optimizer = state.train.optimizers[-1]
    optimizer.zero_grad()
    total = 0.0
    for forward in forwards:
        some = forward.batch.part(slice(0, settings.teacher_batch or None))
        with torch.no_grad():
            real = teacher_features(settings, state.teacher, some, some.x0)
        logits = _judged(state, some, real), _judged(state, some, [map_.detach() for map_ in forward.features])
        loss = discriminator_hinge(*logits).mean()
        (forward.share * loss).backward()
        total += forward.share * float(loss.detach())
    _check_finite(state, total, {"discriminator": total})
    optimizer.step()
    optimizer.zero_grad()
    return {"discriminator": total}


def _student_step(state: DistillState, forwards: Iterator[_Forward]) -> dict[str, float]:
    """The weighted sum of all losses (TAD-SR, eq. 13), with the discriminator as its step left it."""
    settings, weights = state.settings, weights_of(state.settings)
    set_learning_rate(state.student_optimizers, learning_rate(settings, state.train.step))
    for optimizer in state.student_optimizers:
        optimizer.zero_grad()
    numbers: dict[str, float] = {}
    with _closed(state.discriminator):
        for forward in forwards:
            losses, beside = student_losses(settings, state.teacher, forward.batch, forward.prediction)
            losses |= {name: value.mean() for name, value in forward.sinsr.items()}
            if forward.features:
                losses["adversarial"] = generator_hinge(_judged(state, forward.batch, forward.features)).mean()
            if settings.resshift:
                losses["resshift"] = stage_zero_loss(state.student, state.teacher.schedule, forward.batch)
            parts = [weights[name] * value for name, value in losses.items()]
            for name, (weight, function) in state.extra.items():
                losses[name] = function(forward.prediction, forward.batch)
                parts.append(weight * losses[name])
            total = torch.stack(parts).sum()
            shown = {name: float(value.detach()) for name, value in losses.items() if name != "score"} | beside
            _check_finite(state, float(total.detach()), shown)
            (forward.share * total).backward()
            for name, value in shown.items():
                numbers[name] = numbers.get(name, 0.0) + forward.share * value
    if settings.clip_norm:
        numbers["norm"] = float(torch.nn.utils.clip_grad_norm_(state.student.parameters(), settings.clip_norm))
    for optimizer in state.student_optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return numbers


@contextmanager
def _closed(discriminator: nn.Module | None) -> Generator[None, None, None]:
    """Keeps gradients out of the discriminator's own parameters while the student's pass through it."""
    if discriminator is not None:
        discriminator.requires_grad_(False)
    try:
        yield
    finally:
        if discriminator is not None:
            discriminator.requires_grad_(True)


def _check_finite(state: DistillState, loss: float, parts: Mapping[str, float]) -> None:
    if not math.isfinite(loss):
        raise ValueError(
            f"The loss of step {state.train.step + 1} is not finite ({dict(parts)}): expected a number; lower the learning rates "
            "and look at the pictures and at the teacher."
        )


def averaged(state: DistillState) -> dict[str, Tensor]:
    """The student's state with its averaged parameters, on the CPU."""
    values = {**state.student.state_dict(), **state.train.ema.values}
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in values.items()}


def save_run(state: DistillState, path: Path) -> None:
    """Everything that a resumed run needs: student, average, discriminator with its power iterations, all optimisers."""
    save_checkpoint(path, state.train, state.settings.text(about=state.about))


def resume_run(state: DistillState, path: Path) -> None:
    """Continues where a checkpoint stopped; ValueError if it belongs to other settings."""
    load_checkpoint(path, state.train, state.settings.text(about=state.about))
