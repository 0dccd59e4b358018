"""Which tiles a MODEL takes well, told by its kind, and the tiles of a canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_base
import comfy.supported_models
from comfy.model_base import BaseModel
from comfy.samplers import CFGGuider

from ...imaging.tile_plan import Fit, Sizes, TileCost, area, cheaper, fit, fixed, safer
from ...sampling.network_cost import COUNTED
from ..resshift.patchers import ResidualShiftModel

RESIDUAL_SHIFT_CELLS = 64
"""Side of the latents that the published residual-shift networks were trained on; embedded ones take any."""
PUBLISHED_CHANNELS = 320
"""First width of the networks that were counted; a smaller one of the same kind costs less."""
OTHER_MULTIPLE = 4
"""Cells; transformers cut latents into patches of 2."""


@dataclass(frozen=True)
class ModelKind:
    """Pixels that a kind of model was trained on, the cells that its levels divide, and whose arithmetic its tiles are compared by.

    is_counted: the network is of this kind itself; others are compared by the nearest that was counted.
    """

    trained_px: int
    multiple: int
    network: str | None
    is_counted: bool = True

    @property
    def cost(self) -> TileCost:
        """Work of one row of a call; without a counted network in proportion to the cells."""
        return area if self.network is None else COUNTED[self.network]

    def sizes(self, downscale: int) -> Sizes:
        """In latent cells of `downscale` pixels."""
        return Sizes(max(1, self.trained_px // downscale), self.multiple)


def kind_of(model: BaseModel) -> ModelKind:
    """The kind of a BaseModel: SD 1.x and SD 2.x of 512 pixels, SD 2.x that predicts v of 768, all others of 1024."""
    if isinstance(model, ResidualShiftModel):
        network = model.diffusion_model.network.config
        trained = getattr(network, "image_size", RESIDUAL_SHIFT_CELLS) * model.latent_format.spacial_downscale_ratio
        return ModelKind(trained, network.size_multiple, None)
    config = model.model_config
    levels = config.unet_config.get("channel_mult")
    multiple = OTHER_MULTIPLE if levels is None else 2 ** (len(levels) - 1)
    if isinstance(config, comfy.supported_models.SD20):
        is_v = model.model_type is comfy.model_base.ModelType.V_PREDICTION
        return ModelKind(768 if is_v else 512, multiple, "SD 2.1")
    four_channels, labelled = model.latent_format.latent_channels == 4, config.unet_config.get("adm_in_channels")
    if levels is not None and four_channels and not labelled:
        return ModelKind(512, multiple, "SD 1.5")
    return ModelKind(1024, multiple, "SDXL", isinstance(config, comfy.supported_models.SDXL))


def arithmetic(guider: CFGGuider, tile: Sequence[int], region_calls: int) -> float | None:
    """Floating-point operations of this many calls on tiles of (h, w) cells; None for networks that were not counted.

    Guidance counts, as one more row of a call for every condition; ControlNets do not.
    """
    model = guider.inner_model
    kind = kind_of(model)
    if kind.network is None or not kind.is_counted:
        return None
    if model.model_config.unet_config.get("model_channels") != PUBLISHED_CHANNELS:
        return None
    unguided = guider.cfg == 1.0 and not guider.model_options.get("disable_cfg1_optimization", False)
    rows = sum(len(conds) for name, conds in guider.conds.items() if not (unguided and name == "negative"))
    return region_calls * rows * kind.cost(tile[0], tile[1])


def tiles_of(model: BaseModel, latent_size: Sequence[int], tile_px: int, overlap_px: int) -> Fit:
    """Tiles of a canvas of (h, w) cells for a BaseModel, evenly spaced: of this side, or with 0 the cheapest of its kind.

    The latter share at least `Sizes.least_overlap`, however low overlap_px is.
    Raises ValueError with a sentence where tiles would overlap by more than half.
    """
    kind, downscale = kind_of(model), model.latent_format.spacial_downscale_ratio
    sizes, overlap = kind.sizes(downscale), overlap_px // downscale
    size = max(1, tile_px // downscale) if tile_px else sizes.choices[-1]
    if overlap > size // 2:
        raise ValueError(
            f"Got an overlap of {overlap_px} pixels for tiles of {size * downscale}: expected at most half a tile, beyond which every "
            "pixel would be computed many times; lower overlap or raise tile_size."
        )
    height, width = latent_size
    if not tile_px:
        return fit(height, width, sizes, max(overlap, sizes.least_overlap), kind.cost)
    return Fit.of(fixed(height, size, overlap), fixed(width, size, overlap), kind.cost)


def choice_report(model: BaseModel, found: Fit, rows: int) -> dict[str, Any]:
    """The tiles in pixels, what `rows` rows of every tile cost, and the next cheaper and the next safer choice (or None)."""
    kind, downscale = kind_of(model), model.latent_format.spacial_downscale_ratio
    sizes = kind.sizes(downscale)
    known = kind.network is not None and kind.is_counted

    def facts(one: Fit) -> dict[str, Any]:
        tile = f"{one.columns.size * downscale}x{one.rows.size * downscale}"
        grid = f"{one.columns.count}x{one.rows.count}"
        shared = one.overlap * downscale if one.count > 1 else None
        work = {"tflop": round(rows * one.cost / 1e12, 3)} if known else {}
        return {"tile": tile, "grid": grid, "shared_px": shared, **work, "cost": round(one.cost / found.cost, 3)}

    def offer(one: Fit | None) -> dict[str, Any] | None:
        return one and {**facts(one), "tile_size": 0, "overlap": min(one.overlap, sizes.choices[-1] // 2) * downscale}

    others = cheaper(found, sizes, kind.cost), safer(found, sizes, kind.cost)
    work = {"tflop_of": kind.network} if known else {}
    return {**facts(found), **work, "next_cheaper": offer(others[0]), "next_safer": offer(others[1])}
