"""Wavelet Color Fix."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.images import join_image, split_image
from ..imaging.color import ColorFix, match_color
from .common import CATEGORY, CheckedNode


class WaveletColorFix(CheckedNode):
    """Gives an image the colours of a reference, on whole frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRWaveletColorFix",
            display_name="Wavelet Color Fix",
            category=CATEGORY,
            description="Gives an upscaled image the colours of its source, on the whole frame so that tiles keep no tint. Transparency is untouched.",
            search_aliases=["color correction", "colour match", "adain", "lab", "wavelet", "stablesr"],
            inputs=[
                io.Image.Input("image", tooltip="The picture to correct."),
                io.Image.Input(
                    "reference", tooltip="Where the colours come from, of any size: one image, or one for each."
                ),
                io.Combo.Input(
                    "mode",
                    options=[mode.value for mode in ColorFix],
                    default=ColorFix.WAVELET.value,
                    tooltip="wavelet: the reference's low frequencies (StableSR's choice for local tints). adain: mean and deviation of each RGB channel (StableSR's default). lab: mean and deviation of each CIELAB channel. ycbcr: brightness stays, colour is the reference's (InvSR).",
                ),
                io.Int.Input(
                    "levels",
                    default=5,
                    min=1,
                    max=8,
                    advanced=True,
                    tooltip="Wavelet levels: colours are taken above a size of about 2^levels pixels. Fewer follow the reference closer and may bring its blur along.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The picture in the reference's colours.")],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, reference: io.Image.Type, mode: str, levels: int = 5) -> io.NodeOutput:
        rgb, alpha = split_image(image)
        colors, _ = split_image(reference, "reference")
        return io.NodeOutput(join_image(match_color(rgb, colors, ColorFix(mode), levels), alpha))
