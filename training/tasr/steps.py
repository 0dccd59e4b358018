"""One step of TASR's training: what is drawn, and what is minimised (section 3.3; turns as in the public code)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ...models.time_aware_adapter import TimeAwareAdapters
from .config import CONTROL, TasrConfig
from .losses import X0Formula, at, denoise_loss, masked_l1, neutral_pull, noised, predicted_x0, reward_loss
from .rewards import Reward


class FrozenBase(Protocol):
    """The networks that stay as they are; whoever binds them to a host decides how."""

    alphas_cumprod: Tensor
    """(T,) of the noise schedule."""
    pixels_per_cell: int
    device: torch.device

    @property
    def latent_channels(self) -> int: ...

    def encode(self, picture: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) of a picture (B, 3, H, W) in [0, 1], without gradients."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """The picture in [0, 1], not clamped, of scaled latents; differentiable."""
        ...

    def predict(
        self,
        controlnet: nn.Module,
        adapters: TimeAwareAdapters | None,
        z_t: Tensor,
        z_lr: Tensor,
        t: Tensor,
        text: Tensor,
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Predicted noise, and every alpha map (none without adapters); differentiable in both trained networks."""
        ...


@dataclass(frozen=True)
class PromptedBatch:
    """A batch: targets and conditions (B, 3, H, W) in [0, 1] at the same size, text (B, L, C), and the text of no prompt."""

    target: Tensor
    condition: Tensor
    text: Tensor
    empty_text: Tensor | None
    """(1, L, C); None: prompts are never dropped."""


@dataclass(frozen=True)
class TasrDraw:
    """All randomness of a step."""

    t: Tensor
    eps: Tensor
    keep_prompt: Tensor
    crop: tuple[int, int]


def draw(
    config: TasrConfig, step: int, shape: Sequence[int], steps_of_noise: int, generator: torch.Generator
) -> TasrDraw:
    """Timesteps, noise, kept prompts and the corner of the decoded crop, for latents of a shape (B, C, h, w).

    The adapters' turns see the reward's timesteps, the others all.
    """
    times = config.reward_times(steps_of_noise) if config.trains_adapters(step) else range(steps_of_noise)
    t = torch.randint(times.start, times.stop, (shape[0],), generator=generator)
    eps = torch.randn(tuple(shape), generator=generator)
    keep = torch.rand(shape[0], generator=generator) >= config.prompt_dropping
    side = decoded_cells(config, shape)
    room = [length - cells + 1 for length, cells in zip(shape[-2:], side)]
    corner = [int(torch.randint(most, (), generator=generator)) for most in room]
    return TasrDraw(t, eps, keep, (corner[0], corner[1]))


def decoded_cells(config: TasrConfig, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of the part of a latent that is decoded."""
    wanted = config.decode_cells or max(shape[-2:])
    return min(wanted, shape[-2]), min(wanted, shape[-1])


def step_loss(
    config: TasrConfig,
    step: int,
    base: FrozenBase,
    controlnet: nn.Module,
    adapters: TimeAwareAdapters | None,
    pictures: PromptedBatch,
    drawn: TasrDraw,
    reward: Reward | None,
) -> tuple[Tensor, dict[str, float]]:
    """The scalar to minimise at a step, and its parts by name.

    Stage I: L_d. Stage II: L_d + l1_weight L_1 when the ControlNet learns, L_d + reward_weight ReLU(1 - R) when the adapters
    do (TASR eq. 6, split as section 3.3 says). A stage II without adapters has both on the ControlNet, each at its timesteps.
    """
    target, condition = pictures.target.to(base.device), pictures.condition.to(base.device)
    z_0, z_lr = base.encode(target), base.encode(condition)
    t, eps = drawn.t.to(base.device), drawn.eps.to(z_0)
    abar = at(base.alphas_cumprod, t).to(z_0)
    z_t = noised(z_0, eps, abar)
    prediction, alphas = base.predict(controlnet, adapters, z_t, z_lr, t, _texts(pictures, drawn).to(base.device))
    loss = denoise_loss(prediction, eps)
    numbers = {"denoise": float(loss.detach())}
    if config.stage == CONTROL:
        return loss, numbers
    wanted = picture_samples(config, step, t, len(base.alphas_cumprod), has_reward=reward is not None)
    if any(bool(chosen.any()) for chosen in wanted.values()):  # else nothing needs the decoder
        z_hat = predicted_x0(z_t, prediction, abar, X0Formula(config.x0_formula))
        picture, part = decoded(config, base, z_hat, target, drawn)
        for name, extra, weight in picture_losses(config, wanted, picture, part, reward):
            loss, numbers[name] = loss + weight * extra, float(extra.detach())
    if adapters is not None and config.trains_adapters(step):
        if config.pull_weight:
            pull = neutral_pull(alphas, adapters.config.alpha_max / 2)
            loss, numbers["pull"] = loss + config.pull_weight * pull, float(pull.detach())
        numbers["alpha"] = float(torch.stack([alpha.detach().float().mean() for alpha in alphas]).mean())
    return loss, numbers


def picture_samples(config: TasrConfig, step: int, t: Tensor, count: int, *, has_reward: bool) -> dict[str, Tensor]:
    """Which samples (B,) have which loss of the decoded picture at a step of stage II, by the loss's name."""
    learn, times = config.trains_adapters(step), config.reward_times(count)
    wanted: dict[str, Tensor] = {}
    if not learn:
        wanted["l1"] = config.has_l1(t, count)
    if has_reward and (learn or not config.has_adapters):
        wanted["reward_loss"] = (t >= times.start) & (t < times.stop)
    return wanted


def picture_losses(
    config: TasrConfig, wanted: Mapping[str, Tensor], picture: Tensor, target: Tensor, reward: Reward | None
) -> Iterator[tuple[str, Tensor, float]]:
    """Name, value and weight of the losses of a decoded picture, over the samples that have them."""
    if "l1" in wanted and bool(wanted["l1"].any()):
        yield "l1", masked_l1(picture, target, wanted["l1"]), config.l1_weight
    chosen = wanted.get("reward_loss")
    if chosen is not None and reward is not None and bool(chosen.any()):
        yield "reward_loss", reward_loss(reward(picture[chosen], target[chosen])).mean(), config.reward_weight


def decoded(
    config: TasrConfig, base: FrozenBase, z_hat: Tensor, target: Tensor, drawn: TasrDraw
) -> tuple[Tensor, Tensor]:
    """I_hat = clamp(Decode(z_hat), 0, 1) (TASR eq. 4) and the target, both of the drawn crop."""
    (top, left), (rows, columns), scale = drawn.crop, decoded_cells(config, z_hat.shape), base.pixels_per_cell
    picture = base.decode(z_hat[..., top : top + rows, left : left + columns]).float().clamp(0, 1)
    part = target[..., scale * top : scale * (top + rows), scale * left : scale * (left + columns)]
    return picture, part


def _texts(pictures: PromptedBatch, drawn: TasrDraw) -> Tensor:
    if pictures.empty_text is None:
        return pictures.text
    keep = drawn.keep_prompt.to(pictures.text.device)[:, None, None]
    return torch.where(keep, pictures.text, pictures.empty_text)
