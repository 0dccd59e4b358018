"""A guider of the host as `sampling.adaptive.types.RegionModel`: conditions, noise mask, cancel, float32 retry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import torch
from comfy.model_base import BaseModel
from comfy.samplers import CFGGuider
from torch import Tensor

from ...imaging.transfer import upload
from ...sampling.adaptive.types import RegionModel, Row, crop_rows
from ..runtime import ROWS_KEY
from .conditions import CanvasConditions


@dataclass(frozen=True)
class KeptLatent:
    """What a noise mask (B, C, H, W) keeps: the latent, under noise of the row's level while its region is sampled."""

    mask: Tensor
    latent: Tensor
    noise: Tensor
    sigmas: Tensor

    def rows_mask(self, guider: CFGGuider, sigma: Tensor, rows: Sequence[Row], options: dict[str, Any]) -> Tensor:
        """Returns the rows' masks (N, C, h, w), 1 where they are sampled."""
        mask = crop_rows(self.mask, rows)
        function = options.get("denoise_mask_function")
        if function is None:
            return mask
        # Asked level by level, since such functions look at the first row only.
        levels = sigma.tolist()
        for level in set(levels):
            chosen = [i for i, own in enumerate(levels) if own == level]
            extra = {"model": guider, "sigmas": self.sigmas}
            there = sigma[chosen].to(mask.device)
            mask[chosen] = function(there, mask[chosen], extra_options=extra).to(mask)
        return mask

    def noised(self, guider: CFGGuider, x: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        """Returns the rows' latents at their levels, as the model wants them around what it samples."""
        noise, latent = crop_rows(self.noise, rows), crop_rows(self.latent, rows)
        return guider.inner_model.scale_latent_inpaint(x=x, sigma=sigma, noise=noise, latent_image=latent)


class RegionDenoiser:
    """Predicts rows with a guider, whose conditions are those of the call while it runs."""

    def __init__(
        self, guider: CFGGuider, extra_args: dict[str, Any], conditions: CanvasConditions, kept: KeptLatent | None
    ) -> None:
        self._guider, self._extra_args, self._conditions, self._kept = guider, extra_args, conditions, kept

    def __call__(self, x: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        mm.throw_exception_if_processing_interrupted()
        options, kept, mask = self._extra_args["model_options"], self._kept, None
        there = upload(sigma, x.device)
        if kept is not None:
            mask = kept.rows_mask(self._guider, sigma, rows, options)
            x = x * mask + kept.noised(self._guider, x, there, rows) * (1.0 - mask)
        transformer_options = {**options.get("transformer_options", {}), ROWS_KEY: tuple(rows)}
        arguments = {**self._extra_args, "model_options": {**options, "transformer_options": transformer_options}}
        whole = self._guider.conds
        try:
            self._guider.conds = self._conditions.crop(rows, sigma.tolist())
            x0 = self._guider(x, there, **arguments)
        finally:
            self._guider.conds = whole
        if kept is None or mask is None:
            return x0
        return x0 * mask + crop_rows(kept.latent, rows) * (1.0 - mask)

    def full_precision(self) -> RegionModel | None:
        """Returns the same prediction in float32, for rows that were not finite; None where it is float32 already."""
        model = self._guider.inner_model
        if model.get_dtype_inference() == torch.float32:
            return None

        def predict(x: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
            with _float32(model):
                return self(x, sigma, rows)

        return predict


@contextmanager
def _float32(model: BaseModel) -> Iterator[None]:
    """Makes the host's layers cast their weights to float32 for the time being."""
    layers: list[Any] = [m for m in model.diffusion_model.modules() if hasattr(m, "comfy_cast_weights")]
    before, dtype = [m.comfy_cast_weights for m in layers], model.manual_cast_dtype
    try:
        model.manual_cast_dtype = torch.float32
        for layer in layers:
            layer.comfy_cast_weights = True
        yield
    finally:
        model.manual_cast_dtype = dtype
        for layer, cast in zip(layers, before):
            layer.comfy_cast_weights = cast


def check_model_patches(model_options: dict[str, Any]) -> None:
    """Refuses patches of the MODEL that hold a picture of the whole canvas, and caches of whole steps.

    To a step cache the regions of one step, which come one after the other, look like steps.
    """
    for key, holder in model_options.get("transformer_options", {}).items():
        if "cache" in str(key).lower() and holder is not None:
            raise ValueError(
                f"The MODEL carries a step cache ({getattr(holder, 'name', None) or key}), which takes the regions of one step for steps "
                "that follow each other: expected a MODEL without one; remove EasyCache, LazyCache or the like."
            )
    for patches in model_options.get("transformer_options", {}).get("patches", {}).values():
        for patch in patches:
            if hasattr(patch, "model_patch") and hasattr(patch, "image"):
                raise ValueError(
                    f"The MODEL carries a '{type(patch).__name__}' with a picture of the whole canvas, which cannot be cropped to "
                    "regions: expected control through CONDITIONING (Apply ControlNet); remove the patch node."
                )
