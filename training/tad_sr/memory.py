"""What a distillation holds in memory, counted without running it: weights, gradients, moments, and tensors kept for gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import Denoiser
from .config import DistillSettings
from .discriminator import DiscriminatorConfig, TimeAwareDiscriminator

GB = 1e9
FLOAT = 4


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes: what a run holds whatever the batch, and what each image of a (micro)batch adds while gradients are taken."""

    fixed: int
    per_image: int

    def total(self, images: int) -> int:
        return self.fixed + images * self.per_image

    def images_in(self, memory: float, reserve: float = 0.15) -> int:
        """The largest microbatch for a memory in bytes, with a share left to the allocator and to short-lived tensors."""
        return max(0, int(((1 - reserve) * memory - self.fixed) // self.per_image))


def memory_plan(network: Denoiser, settings: DistillSettings, cells: int, autoencoder_bytes: int = 0) -> MemoryPlan:
    """The plan of a run whose HR crops are `cells` latent cells wide, for float32 training with AdamW.

    Student: weights, gradients, two moments and the average; teacher: weights; discriminator: weights, gradients, moments.
    Per image: all that the student's forwards, the teacher's features and the discriminator keep for the backward pass,
    counted on tensors without memory. Short-lived tensors and the library's workspaces are not counted.
    """
    student = sum(parameter.numel() for parameter in network.parameters()) * FLOAT
    fixed = (1 + 1 + 2 + 1) * student + student + autoencoder_bytes
    twin = type(network)(network.config, device="meta")  # type: ignore[arg-type]
    config = network.config
    lq = torch.zeros(1, 3, cells * config.lq_factor, cells * config.lq_factor, device="meta")
    latent = torch.zeros(1, config.latent_channels, cells, cells, device="meta")
    time = torch.zeros(1, device="meta")
    judge = None
    if settings.adversarial_part:
        channels = config.tap_channels(settings.taps)
        sizes = DiscriminatorConfig.for_channels(channels, embed_dim=min(channels), c_dim=settings.discriminator_width)
        judge = TimeAwareDiscriminator(sizes, device="meta")
        fixed += 4 * FLOAT * sum(parameter.numel() for parameter in judge.parameters())
    # SinSR's parts keep two further graphs, a teacher's loss one of its own.
    calls = settings.uses_student_step + 2 * settings.uses_sinsr + bool(settings.resshift)
    per_image = calls * kept_bytes(lambda: twin(latent, time, lq))
    if judge is not None:
        frozen = twin.requires_grad_(False)
        seen = latent.clone().requires_grad_(True)
        per_image += kept_bytes(lambda: judge(frozen.features(seen, time, lq, taps=settings.taps), time))
    return MemoryPlan(fixed, per_image)


def kept_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes of the tensors that a call keeps for the backward pass; parameters are not counted."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor if tensor._base is None else tensor._base
            kept[id(storage)] = storage
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
