"""What a pipeline needs of the networks that it is given; `host` and the tests provide them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Denoiser(Protocol):
    """Predicts the clean latent of tiles, on whatever device and in whatever precision it runs."""

    @property
    def lq_factor(self) -> int:
        """Pixels of the LR image along one latent cell."""
        ...

    @property
    def size_multiple(self) -> int:
        """Latent sides must be multiples of this."""
        ...

    def __call__(self, x: Tensor, timesteps: Tensor, lq: Tensor, *, full_precision: bool = False) -> Tensor:
        """Scaled latents (N, C, h, w), time indices (N,) and LR tiles (N, 3, h * f, w * f) in [-1, 1] -> x0 (N, C, h, w)."""
        ...


class PictureCodec(Protocol):
    """Pixels in [-1, 1] to latents and back."""

    @property
    def downscale(self) -> int:
        """Pixels along one latent cell."""
        ...

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H / f, W / f)."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 3, h * f, w * f), not clamped."""
        ...


class Runtime(Protocol):
    """The host's side of a long computation."""

    def step(self, rows: int) -> None:
        """Reports rows of work done; raises if the user has cancelled."""
        ...

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether the error means that a smaller batch may succeed."""
        ...


class StartNoisePredictor(Protocol):
    """Predicts the distribution of the start noise from tiles of the LR image (`models.noise_predictor`)."""

    @property
    def factor(self) -> int:
        """Pixels of the LR image along one latent cell."""
        ...

    def __call__(self, lr: Tensor, index: int, *, full_precision: bool = False) -> tuple[Tensor, Tensor]:
        """LR tiles (N, 3, h * f, w * f) in [0, 1] and a start index -> mean and deviation (N, C, h, w), float32."""
        ...


class LatentSampler(Protocol):
    """Brings latents from their start noise to a clean picture."""

    def __call__(self, latent: Tensor, noise: Tensor) -> Tensor:
        """Latents of the enlarged image and the start noise, (N, C, h, w) each -> clean latents, alike."""
        ...
