"""A small residual-shift denoiser on rearranged pixels: the architecture of the weights that ship with the pack.

It has the meaning of ResShift's denoiser, f(x_t / s_t, t, y0) -> x0 (Yue et al. 2023), on the 48-channel latent of
`PixelAutoencoder`. The trunk is that of EDSR (Lim et al. 2017: residual blocks, no normalisation), so its receptive
field is finite and tiles with that overlap are exact. The scalings follow EDM (Karras et al. 2022, table 1), written
for the residual r = x0 - y instead of x0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 4
LATENT_CHANNELS = 3 * SCALE**2
HALF_CHANNELS = LATENT_CHANNELS // 4  # the latent at twice the LR size
FEATURE_TAPS = 4  # maps that a discriminator sees unless it is told which
DEFAULT_KAPPA = 0.2  # 1.7 times the residual's deviation; the papers' 2.0 fits unit-variance latents
DEFAULT_RESIDUAL_STD = 0.12


def rows_of(sd: Mapping[str, object], key: str, dim: int = 0) -> int:
    """A side of the tensor of that key; ValueError where there is none."""
    tensor = sd.get(key)
    if not isinstance(tensor, Tensor):
        raise ValueError(f"key {key!r} is missing: this is not a pixel denoiser file; choose one with that key")
    return int(tensor.shape[dim])


@dataclass(frozen=True)
class PixelDenoiserConfig:
    """Sizes of a pixel denoiser, all readable from its state dict."""

    channels: int = 64
    blocks: int = 8
    refine_channels: int = 48
    feature_channels: int = 16
    time_channels: int = 64
    num_steps: int = 15

    latent_channels = LATENT_CHANNELS
    lq_factor = 1  # LR-condition pixels per latent cell
    size_multiple = 1  # any size: no window, no stride
    has_mask = False

    @property
    def receptive_field(self) -> int:
        """LR pixels on each side that can influence an output cell: trunk, 2x refinement (3 half pixels), bicubic."""
        return 2 * self.blocks + 2 + 2 + 2

    @property
    def feature_taps(self) -> tuple[int, ...]:
        """Blocks behind which `PixelDenoiser.features` looks by default: a quarter, half, three quarters and all of the trunk."""
        return tuple(sorted({-(-self.blocks * part // FEATURE_TAPS) - 1 for part in range(1, FEATURE_TAPS + 1)}))

    def tap_channels(self, taps: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Widths of the maps of `PixelDenoiser.features`."""
        return (self.channels,) * len(taps or self.feature_taps)

    @classmethod
    def from_state_dict(cls, sd: Mapping[str, object]) -> PixelDenoiserConfig:
        """Sizes from output dimensions and key presence; ValueError names the first key that is missing."""
        blocks = sum(1 for key in sd if key.startswith("blocks.") and key.endswith(".conv1.weight"))
        return cls(
            channels=rows_of(sd, "embed_lq.weight"),
            blocks=blocks,
            refine_channels=rows_of(sd, "refine_in.weight"),
            feature_channels=rows_of(sd, "to_features.weight") // 4,
            time_channels=rows_of(sd, "time_embed.weight"),
            num_steps=rows_of(sd, "sqrt_etas"),
        )


def precondition(sqrt_eta: Tensor, kappa: Tensor, residual_std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scalings (c_in, c_skip, c_out) of EDM (Karras et al. 2022, appendix B.6) for a shifted residual.

    With x_t = x0 + eta (y - x0) + kappa sqrt(eta) n (ResShift eq. 2), r_t = x_t - y = (1 - eta) r + kappa sqrt(eta) n:
    EDM's data is r, its signal is scaled by 1 - eta and its noise is kappa sqrt(eta).
    """
    eta = sqrt_eta**2
    signal, noise = (1 - eta) * residual_std, kappa * sqrt_eta
    total = signal**2 + noise**2
    return total.rsqrt(), signal * residual_std / total, noise * residual_std * total.rsqrt()


def upsampled_latent(lq: Tensor) -> Tensor:
    """y of ResShift: bicubic x4 (a = -0.75, no antialias, unclamped) of (B, 3, h, w), as a (B, 48, h, w) latent."""
    up = F.interpolate(lq.float(), scale_factor=SCALE, mode="bicubic", align_corners=False)
    return F.pixel_unshuffle(up.to(lq.dtype), SCALE)


def to_half_scale(z: Tensor) -> Tensor:
    """(B, 48, h, w) pixels of an LR cell regrouped as (B, 12, 2h, 2w)."""
    return F.pixel_unshuffle(F.pixel_shuffle(z, SCALE), 2)


def from_half_scale(z: Tensor) -> Tensor:
    """Inverse of `to_half_scale`."""
    return F.pixel_unshuffle(F.pixel_shuffle(z, 2), SCALE)


def noise_level_features(sqrt_eta: Tensor, channels: int) -> Tensor:
    """Sines and cosines of log sqrt(eta), a noise level instead of an index, so chains of any length share weights."""
    frequencies = torch.exp(torch.linspace(math.log(0.25), math.log(8.0), channels // 2, device=sqrt_eta.device))
    angles = sqrt_eta.float().log()[:, None] * frequencies  # (B, channels / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ResidualBlock(nn.Module):
    """conv, noise-level modulation, ReLU, conv, plus the input."""

    def __init__(self, channels: int, operations: Any, factory: dict[str, Any]) -> None:
        super().__init__()
        self.conv1 = operations.Conv2d(channels, channels, 3, padding=1, **factory)
        self.conv2 = operations.Conv2d(channels, channels, 3, padding=1, **factory)

    def forward(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return h + self.conv2(F.relu(torch.addcmul(shift, self.conv1(h), scale)))


class ResidualDenoiser(nn.Module):
    """The call f(x_t / s_t, t, y0) -> x0 that the embedded denoisers share; a subclass gives `_network`, EDM's F.

    The schedule travels with the weights, in float32 whatever the storage type, and is cast where it is used.
    """

    sqrt_etas: Tensor
    kappa: Tensor
    residual_std: Tensor
    one_step: Tensor

    def __init__(self, num_steps: int, device: torch.device | str | None) -> None:
        super().__init__()
        grid = torch.logspace(math.log10(0.04), math.log10(0.99), num_steps, device=device)
        self.register_buffer("sqrt_etas", grid)
        self.register_buffer("kappa", torch.tensor(DEFAULT_KAPPA, device=device))
        self.register_buffer("residual_std", torch.tensor(DEFAULT_RESIDUAL_STD, device=device))
        self.register_buffer("one_step", torch.tensor(0.0, device=device))

    def level(self, timesteps: Tensor) -> Tensor:
        """sqrt(eta) (B,) float32 of raw indices, which may be fractional: linear between the grid's entries."""
        grid = self.sqrt_etas.to(timesteps.device, torch.float32)
        place = timesteps.float().clamp(0, grid.shape[0] - 1)
        low = place.floor().long()
        return torch.lerp(grid[low], grid[(low + 1).clamp_max(grid.shape[0] - 1)], place - low)

    def forward(self, x: Tensor, timesteps: Tensor, lq: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predicted x0 (B, 48, h, w) from x = x_t / sqrt(kappa^2 eta_t + 1) (ResShift, input scaling).

        x (B, 48, h, w); timesteps (B,) indices into `sqrt_etas`; lq (B, 3, h, w) in [-1, 1]. There is no mask input.
        """
        if mask is not None:
            raise ValueError("mask was given, but the pixel denoiser has no mask input: disconnect it")
        y, shifted, (c_in, c_skip, c_out), sqrt_eta = self._prepared(x, timesteps, lq)
        residual = self._network(shifted * c_in, sqrt_eta, lq.to(x.dtype))
        return y + c_skip * shifted + c_out * residual

    def _network(self, latent: Tensor, sqrt_eta: Tensor, lq: Tensor) -> Tensor:
        """EDM's F: unit-variance residual estimate (B, 48, h, w) from the scaled r_t and the LR image."""
        raise NotImplementedError

    def _prepared(
        self, x: Tensor, timesteps: Tensor, lq: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
        """y, r_t = x_t - y, the scalings (c_in, c_skip, c_out) as (B, 1, 1, 1), and sqrt(eta) (B,)."""
        if lq.shape[-2:] != x.shape[-2:]:
            raise ValueError(f"lq is {tuple(lq.shape[-2:])} and x {tuple(x.shape[-2:])}: both must be the LR size")
        sqrt_eta = self.level(timesteps)  # (B,)
        kappa, std = self.kappa.to(sqrt_eta), self.residual_std.to(sqrt_eta)
        column = (sqrt_eta.shape[0], 1, 1, 1)
        c_in, c_skip, c_out = (c.view(column).to(x.dtype) for c in precondition(sqrt_eta, kappa, std))
        input_scale = (kappa**2 * sqrt_eta**2 + 1).sqrt().view(column).to(x.dtype)
        y = upsampled_latent(lq.to(x.dtype))  # (B, 48, h, w)
        return y, x * input_scale - y, (c_in, c_skip, c_out), sqrt_eta


class PixelDenoiser(ResidualDenoiser):
    """Predicts the clean latent from a noisy one and the LR image; see the module docstring."""

    def __init__(
        self,
        config: PixelDenoiserConfig,
        operations: ModuleType | Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(config.num_steps, device)
        self.config = config
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        c, r, f = config.channels, config.refine_channels, config.feature_channels
        conv = operations.Conv2d
        self.embed_lq = conv(3, c, 3, padding=1, **factory)
        self.embed_latent = conv(LATENT_CHANNELS, c, 3, padding=1, bias=False, **factory)
        self.time_embed = operations.Linear(config.time_channels, config.time_channels, **factory)
        self.film = operations.Linear(config.time_channels, 2 * (config.blocks * c + r), **factory)
        self.blocks = nn.ModuleList([ResidualBlock(c, operations, factory) for _ in range(config.blocks)])
        self.to_coarse = conv(c, LATENT_CHANNELS, 3, padding=1, **factory)
        self.to_features = conv(c, 4 * f, 3, padding=1, **factory)
        self.refine_in = conv(f + 2 * HALF_CHANNELS, r, 3, padding=1, **factory)
        self.refine_mid = conv(r, r, 3, padding=1, **factory)
        self.refine_out = conv(r, HALF_CHANNELS, 3, padding=1, **factory)

    @property
    def size_multiple(self) -> int:
        return self.config.size_multiple

    @property
    def receptive_field(self) -> int:
        return self.config.receptive_field

    def reset_parameters(self, generator: torch.Generator) -> None:
        """He initialisation from generator, with a zero output and zero noise input: the first prediction is y."""
        quiet = ("embed_latent", "to_coarse", "refine_out", "film")
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2 or name.startswith(quiet):
                nn.init.zeros_(parameter)
            else:
                gain = 0.1 if name.endswith("conv2.weight") else 1.0
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
                with torch.no_grad():
                    parameter.mul_(gain)
        latent_inputs = slice(self.config.feature_channels, self.config.feature_channels + HALF_CHANNELS)
        nn.init.zeros_(self.refine_in.weight[:, latent_inputs])

    def features(
        self, x: Tensor, timesteps: Tensor, lq: Tensor, mask: Tensor | None = None, *, taps: tuple[int, ...] = ()
    ) -> list[Tensor]:
        """Outputs (B, C, h, w) of the trunk's blocks `taps` (rising; default: `config.feature_taps`), for a discriminator.

        Inputs as in `forward`. Nothing behind the last tap is computed.
        """
        if mask is not None:
            raise ValueError("mask was given, but the pixel denoiser has no mask input: disconnect it")
        wanted = taps or self.config.feature_taps
        if list(wanted) != sorted(set(wanted)) or not 0 <= wanted[0] <= wanted[-1] < self.config.blocks:
            raise ValueError(f"Got taps {wanted}: expected rising block numbers from 0 to {self.config.blocks - 1}.")
        _, shifted, (c_in, _, _), sqrt_eta = self._prepared(x, timesteps, lq)
        modulation, _ = self._modulation(sqrt_eta, x.dtype)
        maps = list(self._trunk(shifted * c_in, lq.to(x.dtype), modulation[: wanted[-1] + 1]))
        return [maps[tap + 1] for tap in wanted]

    def _modulation(self, sqrt_eta: Tensor, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], Tensor]:
        """(scale, shift) of every block in one tensor (B, 2 C, 1, 1) each, and the refinement's (B, 2 r, 1, 1)."""
        c, r = self.config.channels, self.config.refine_channels
        features = noise_level_features(sqrt_eta, self.config.time_channels).to(dtype)
        modulation = self.film(F.silu(self.time_embed(features)))[:, :, None, None]  # (B, 2 (blocks C + r), 1, 1)
        *pairs, last = modulation.split([2 * c] * self.config.blocks + [2 * r], dim=1)
        return tuple(pairs), last

    def _trunk(self, latent: Tensor, lq: Tensor, pairs: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """The embedding and the output of one block for every pair, (B, C, h, w) each; one is held at a time."""
        h = self.embed_lq(lq) + self.embed_latent(latent)
        yield h
        for block, pair in zip(self.blocks, pairs):
            scale, shift = pair.chunk(2, dim=1)
            h = block(h, 1 + scale, shift)
            yield h

    def _network(self, latent: Tensor, sqrt_eta: Tensor, lq: Tensor) -> Tensor:
        pairs, last = self._modulation(sqrt_eta, latent.dtype)
        maps = self._trunk(latent, lq, pairs)
        first = h = next(maps)
        for h in maps:  # noqa: B007  the last one counts
            pass
        h = h + first
        del first
        coarse = self.to_coarse(h)  # (B, 48, h, w)
        detail = F.pixel_shuffle(self.to_features(h), 2)  # (B, f, 2h, 2w)
        detail = self.refine_in(torch.cat([detail, to_half_scale(latent), to_half_scale(coarse)], dim=1))
        scale, shift = cast("tuple[Tensor, Tensor]", last.chunk(2, dim=1))
        detail = self.refine_mid(F.relu(torch.addcmul(shift, detail, 1 + scale)))
        return coarse + from_half_scale(self.refine_out(F.relu(detail)))
