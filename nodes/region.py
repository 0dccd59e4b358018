"""Tiled Region Sampler and Region Sampler."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import comfy.samplers
import torch
from comfy_api.latest import io

from ..host.images import join_image
from ..sampling.adaptive.choices import STEPPER_NAMES, MergeMode
from .common import CATEGORY, CheckedNode, display_of, output
from .types import Gain

if TYPE_CHECKING:
    from ..host.gains.plan import GainPlan
    from ..host.regions.sampler import RegionOptions

SMALLEST_TILE = 64
NO_PLACE = -1
"""The canvas is no part of a larger one."""


def option_inputs() -> list[io.Input]:
    """Inputs that both samplers have."""
    return [
        io.Combo.Input(
            "sampler_name",
            options=list(STEPPER_NAMES),
            default="euler",
            tooltip="Samplers that can step every region on its own. With one region, euler, ddim and dpmpp_2m give what the host's KSampler gives. ddpm is for eps and v models.",
        ),
        io.Int.Input(
            "tile_size",
            default=0,
            min=0,
            max=8192,
            step=8,
            tooltip="Side of a region in pixels, at least 64. 0: near the size that the model was trained on (512 for SD 1.x and 2.x, 768 for SD 2.x that predicts v, else 1024), width and height apart, whatever covers the canvas for the least work. Region Cost Forecast shows it.",
        ),
        io.Int.Input(
            "overlap",
            advanced=True,
            default=64,
            min=0,
            max=4096,
            step=8,
            tooltip="Least overlap of neighbours in pixels, up to half a tile; regions are spread evenly, so that most share more. More context for every region, and more calls. With tile_size 0 at least 3/32 of the trained size, 96 for 1024, below which seams would show.",
        ),
        io.Combo.Input(
            "merge_mode",
            advanced=True,
            options=[MergeMode.CONSENSUS.value, MergeMode.AGGREGATE.value, MergeMode.FINAL.value],
            default=MergeMode.CONSENSUS.value,
            tooltip="consensus: neighbours agree on the clean picture after every call, even at different noise levels. aggregate: one step of the whole canvas at a time, all regions alike (StableSR). final: regions on their own, blended once at the end (AdaDiffSR); seams may show.",
        ),
        io.Int.Input(
            "region_batch",
            default=0,
            min=0,
            max=256,
            advanced=True,
            tooltip="Regions in one model call; 0: by the host's memory estimate. Halved when memory runs out. The result does not depend on it.",
        ),
        io.Mask.Input(
            "budget",
            optional=True,
            tooltip="Where steps go: white regions make all steps, black ones a single one, between by mean brightness. Needs merge mode consensus or final.",
        ),
        Gain.Input(
            "gain",
            optional=True,
            tooltip="From MMLE Gain Estimator: every region's steps follow from what its last call gained. Not together with budget.",
        ),
    ]


def place_inputs() -> list[io.Input]:
    """Where a canvas lies on a larger one that is sampled in parts."""
    return [
        io.Int.Input(
            name,
            default=NO_PLACE,
            min=NO_PLACE,
            max=2**30,
            optional=True,
            advanced=True,
            tooltip=f"For canvases that are parts of a larger one: pixels {side} this part. Parts that overlap then get the same noise there, of the seed and the place. -1 in one of the two: the noise of KSampler.",
        )
        for name, side in (("noise_top", "above"), ("noise_left", "left of"))
    ]


def check_tile(tile_size: int) -> None:
    """Raises ValueError for sides that no network takes."""
    if 0 < tile_size < SMALLEST_TILE:
        raise ValueError(
            f"Got a tile_size of {tile_size} pixels: expected 0, which chooses by the model and the canvas, or at least {SMALLEST_TILE}."
        )


def options_of(
    sampler_name: str,
    tile_size: int,
    overlap: int,
    merge_mode: str,
    region_batch: int,
    budget: torch.Tensor | None,
    gain: GainPlan | None,
) -> RegionOptions:
    """The choices of `option_inputs`."""
    from ..host.regions.sampler import RegionOptions

    check_tile(tile_size)
    return RegionOptions(tile_size, overlap, MergeMode(merge_mode), region_batch, sampler_name, budget, gain)


class TiledRegionSampler(CheckedNode):
    """Samples a large latent region by region on one canvas, with any MODEL of images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        sampler, *others = option_inputs()
        return io.Schema(
            node_id="AdaptiveSRTiledRegionSampler",
            display_name="Tiled Region Sampler",
            category=CATEGORY,
            description="KSampler for canvases of any size: overlapping regions on one noise field, each at its own noise level, several in one model call. ControlNet hints, masks and areas follow their region.",
            search_aliases=["tiled ksampler", "tiled diffusion", "multidiffusion", "ultimate upscale", "adadiffsr"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="Any image model of the host: SD 1.x, 2.x, SDXL, SD3, Flux and their like."
                ),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What the picture shows. ControlNets, masks and areas are cropped to each region.",
                ),
                io.Conditioning.Input("negative", tooltip="What it should not show. Not used at cfg 1."),
                io.Latent.Input(
                    "latent",
                    tooltip="The canvas: an encoded enlarged picture, or an empty latent. Batches and noise masks work.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="One noise field for the whole canvas, the same that KSampler draws for this seed.",
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="Model calls per region; with a budget map or gain, the most.",
                ),
                io.Float.Input(
                    "cfg",
                    default=6.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance: how strongly the positive prompt counts against the negative one. 1 is off and twice as fast.",
                ),
                sampler,
                io.Combo.Input(
                    "scheduler",
                    options=list(comfy.samplers.KSampler.SCHEDULERS),
                    tooltip="How the noise falls over the steps.",
                ),
                io.Float.Input(
                    "denoise",
                    default=0.35,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the noise that is put on the latent. 0.2 to 0.4 keeps an enlarged picture and adds detail; 1 paints anew.",
                ),
                *others,
                *place_inputs(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="What was sampled, for VAE Decode."),
                io.Image.Output(display_name="region_map", tooltip="Steps of every region, in colours and numbers."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: calls, latent Mpx, share of calls saved, seconds, peak memory, batch sizes, steps per region; with gain also classes, exits and gains.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        positive: list,
        negative: list,
        latent: dict,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        tile_size: int,
        overlap: int,
        merge_mode: str,
        region_batch: int = 0,
        budget: torch.Tensor | None = None,
        gain: GainPlan | None = None,
        noise_top: int = NO_PLACE,
        noise_left: int = NO_PLACE,
    ) -> io.NodeOutput:
        from ..host.regions.heat_map import region_map
        from ..host.regions.run import Schedule, sample_latent
        from ..sampling.adaptive.plan import describe

        options = options_of(sampler_name, tile_size, overlap, merge_mode, region_batch, budget, gain)
        if NO_PLACE not in (noise_top, noise_left):
            options = replace(options, place_px=(noise_top, noise_left))
        schedule = Schedule(seed, steps, cfg, scheduler, denoise)
        display = display_of(cls)
        sampled, report = sample_latent(model, positive, negative, latent, schedule, options, display)
        picture = join_image(region_map(report).movedim(-1, 1))
        return output(sampled, picture, json.dumps(report), line=describe(report), display=display)


class RegionSamplerNode(CheckedNode):
    """The same sampling as a SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRRegionSampler",
            display_name="Region Sampler",
            category=CATEGORY,
            description="Tiled Region Sampler as SAMPLER, for SamplerCustomAdvanced with any guider, noise and sigmas. The host plans memory for the whole canvas there; prefer the all-in-one node for very large ones.",
            search_aliases=["tiled sampler", "custom sampler", "region sampler", "sampler custom advanced"],
            inputs=option_inputs(),
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="For SamplerCustomAdvanced.")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        sampler_name: str,
        tile_size: int,
        overlap: int,
        merge_mode: str,
        region_batch: int = 0,
        budget: torch.Tensor | None = None,
        gain: GainPlan | None = None,
    ) -> io.NodeOutput:
        from ..host.regions.sampler import RegionSampler

        options = options_of(sampler_name, tile_size, overlap, merge_mode, region_batch, budget, gain)
        return io.NodeOutput(RegionSampler(options, display_of(cls)))
