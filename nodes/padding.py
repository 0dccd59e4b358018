"""Pad or Crop."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.images import check_room, cropped_to, join_image, split_image
from ..imaging.resize import pad_to_multiple
from .common import CATEGORY, CheckedNode


class PadOrCrop(CheckedNode):
    """Extends a picture to whole cells of a VAE, and cuts what came of it back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRPadOrCrop",
            display_name="Pad or Crop",
            category=CATEGORY,
            description="Two nodes around a VAE that keep every pixel of odd sizes. Before VAE Encode, which would cut off what does not fill a cell of 8 pixels: extends the picture by reflection. Behind the decoder, with original connected: cuts the result back to that size.",
            search_aliases=["pad to multiple", "crop to size", "odd size", "reflect", "divisible by 8", "vae"],
            inputs=[
                io.Image.Input("image", tooltip="The picture to extend, or the result to cut."),
                io.Int.Input(
                    "multiple",
                    default=8,
                    min=1,
                    max=256,
                    advanced=True,
                    tooltip="Both sides become multiples of this, at the right and at the bottom: 8 for VAEs of SD 1.x to SD3 and Flux. Not used with original.",
                ),
                io.Image.Input(
                    "original",
                    optional=True,
                    tooltip="Connected: image is cut at the right and at the bottom to the size of this one, the enlarged picture before it was extended.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The extended picture, or the result cut back.")],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, multiple: int = 8, original: io.Image.Type | None = None) -> io.NodeOutput:
        if original is not None:
            return io.NodeOutput(cropped_to(image, original))
        rgb, alpha = split_image(image)
        check_room(len(rgb), rgb.shape[2] + multiple, rgb.shape[3] + multiple)
        return io.NodeOutput(
            join_image(pad_to_multiple(rgb, multiple), None if alpha is None else pad_to_multiple(alpha, multiple))
        )
