"""Upscale."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..host.adaptive_presets import PRESETS
from ..host.images import join_image, split_image
from .common import CATEGORY, CheckedNode, display_of, output, seed_input, size_inputs, zero_is_auto
from .types import OneStepSR

if TYPE_CHECKING:
    from ..host.resshift.loading import OneStepSR as OneStepModel


def expert_inputs() -> list[io.Input]:
    """What the preset decides where it is 0."""
    return [
        *size_inputs(advanced=True),
        io.Float.Input(
            "denoise",
            display_name=zero_is_auto("denoise"),
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="With model: how much it paints anew. 0: by preset, 0.2, 0.3 or 0.35.",
        ),
        io.Float.Input(
            "cfg",
            display_name=zero_is_auto("cfg"),
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            advanced=True,
            tooltip="With model: guidance by the prompts. 0: by preset, 3, 5 or 6, and 1 without a prompt. Distilled models (Turbo, Flux) want 1.",
        ),
        io.Int.Input(
            "tile_size",
            display_name=zero_is_auto("tile_size"),
            default=0,
            min=0,
            max=8192,
            step=8,
            advanced=True,
            tooltip="With model: side of a region in pixels. 0: what fits model and canvas for the least work, as in Tiled Region Sampler.",
        ),
    ]


class AdaptiveUpscale(CheckedNode):
    """One box for everything."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRAdaptiveUpscale",
            display_name="Upscale",
            category=CATEGORY,
            description="Upscales in one box. Alone: one step with the embedded weights. With ONE_STEP_SR: those weights. With a MODEL and its VAE: the enlarged picture is painted anew, region by region, each as long as it gains.",
            search_aliases=[
                "upscale",
                "enlarge",
                "super resolution",
                "upscaler",
                "easy upscale",
                "放大",
                "超分辨率",
                "ultimate upscale",
                "4x",
                "hires fix",
            ],
            inputs=[
                io.Image.Input(
                    "image", tooltip="Pictures of any size. Transparency is enlarged beside them and put back."
                ),
                io.Float.Input(
                    "scale",
                    default=4.0,
                    min=0.1,
                    max=16.0,
                    step=0.05,
                    tooltip="Size of the result in multiples of the input. Ignored where width or height is set.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="Balanced",
                    tooltip="Fast: one step, or 10 steps of a MODEL. Balanced: colours kept, 4 steps of a chain, or 20 of a MODEL. Best: the whole chain, or eight flipped views of the embedded weights averaged (8 times the time, a little softer), or 30 of a MODEL.",
                ),
                seed_input("One noise field for the whole picture, the same for every image of a batch."),
                *expert_inputs(),
                OneStepSR.Input(
                    "one_step_sr", optional=True, tooltip="From Load One-Step SR, instead of the embedded weights."
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="A diffusion model (SD 1.5, 2.x, SDXL, flow models) that paints the enlarged picture anew. Needs vae.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The VAE of the model."),
                io.Conditioning.Input(
                    "positive", optional=True, tooltip="What the picture shows, for model; without it an empty prompt."
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="What it should not show, for model; without it an empty prompt."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The enlarged pictures, in the size that was asked for."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: calls, sizes, seconds; with a MODEL also steps of every region, for Region Report.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        scale: float,
        preset: str,
        seed: int,
        width: int = 0,
        height: int = 0,
        denoise: float = 0.0,
        cfg: float = 0.0,
        tile_size: int = 0,
        one_step_sr: OneStepModel | None = None,
        **connected: Any,
    ) -> io.NodeOutput:
        from ..host.adaptive_upscale import Parts, UpscaleChoices, adaptive_upscale, describe
        from ..host.resshift.upscale import target_size

        rgb, alpha = split_image(image)
        size = target_size(rgb.shape[3], rgb.shape[2], scale, width, height)
        choices = UpscaleChoices(preset, seed, denoise, cfg, tile_size)
        display, parts = display_of(cls), Parts(one_step_sr, **connected)
        result, report = adaptive_upscale(rgb, size, parts, choices, display)
        return output(join_image(result, alpha), json.dumps(report), line=describe(report), display=display)
