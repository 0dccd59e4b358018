"""Real-World Degradation."""

from __future__ import annotations

import json

from comfy_api.latest import io

from ..host.images import join_image, split_image
from ..imaging.degradation.choices import PRESET_NAMES
from .common import ANALYSIS, CheckedNode, output, seed_input


class RealWorldDegradation(CheckedNode):
    """Makes a small bad picture of a good one, as the papers do for training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRRealWorldDegradation",
            display_name="Real-World Degradation",
            category=ANALYSIS,
            description="Blurs, resizes, adds noise and JPEG, and reduces: a good picture becomes the input that the papers train on. With the original at hand, upscalers can be measured (Image Quality).",
            search_aliases=["degrade", "real-esrgan", "low quality", "make lr", "jpeg", "noise", "blur", "test image"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Good pictures of any size; transparency is reduced beside them. Every image of a batch is degraded its own way.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESET_NAMES),
                    default="real-esrgan",
                    tooltip="Whose table. real-esrgan, diffbir, tad_sr, invsr: strong, two rounds of damage. stablesr, adadiffsr: the same, weaker. invsr_test: one light round. tasr: strong blur. mild: light, what the embedded weights know. gfpgan_face: very strong, for faces. bicubic: only reduces.",
                ),
                io.Int.Input(
                    "scale",
                    default=4,
                    min=1,
                    max=16,
                    tooltip="How many times smaller the result is. Pixels on the right and at the bottom that do not fill one of the result are left out.",
                ),
                seed_input(
                    "Every number is drawn from it. Image 2 of a batch is degraded as seed + 1 degrades it alone."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The small picture."),
                io.String.Output(
                    display_name="parameters", tooltip="JSON: what was drawn for every image, step by step."
                ),
                io.Image.Output(
                    display_name="reference",
                    tooltip="The good picture without the pixels that were left out: exactly scale times as large as the small one.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, preset: str, scale: int, seed: int) -> io.NodeOutput:
        from ..host.degrade import degrade_images, describe

        rgb, alpha = split_image(image)
        made = degrade_images(rgb, alpha, preset, scale, seed)
        reference = join_image(made.reference, made.reference_alpha)
        return output(
            join_image(made.small, made.reference_alpha), json.dumps(made.report), reference, line=describe(made.report)
        )
