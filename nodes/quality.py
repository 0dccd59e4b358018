"""Image Quality (pyiqa)."""

from __future__ import annotations

import json

from comfy_api.latest import io

from ..host.images import join_image, split_image
from .common import ANALYSIS, CheckedNode, output


class ImageQuality(CheckedNode):
    """Measures pictures with pyiqa's metrics."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRImageQuality",
            display_name="Image Quality (pyiqa)",
            category=ANALYSIS,
            description="Measures pictures by pyiqa's metrics, against a reference or alone: numbers and a picture of bars. Pictures of other methods can stand beside.",
            search_aliases=["psnr", "ssim", "lpips", "musiq", "iqa", "metric", "compare upscalers", "benchmark"],
            inputs=[
                io.Image.Input("image", tooltip="The pictures to measure. Transparency does not count."),
                io.String.Input(
                    "metrics",
                    default="psnr, ssim, nlpd, gmsd, piqe",
                    tooltip="pyiqa's names with commas. No weights needed: psnr, ssim, ms_ssim, nlpd, gmsd, fsim, vif, vsi (these compare with the reference) and piqe (needs none). Others, such as lpips, dists, musiq, clipiqa, make pyiqa download their weights; what cannot be had is left out and named.",
                ),
                io.Int.Input(
                    "crop_border",
                    default=4,
                    min=0,
                    max=256,
                    tooltip="Pixels at every side that do not count. Papers leave out as many as the scale.",
                ),
                io.Boolean.Input(
                    "y_channel",
                    default=True,
                    tooltip="psnr, ssim and ms_ssim of brightness alone (BT.601), as papers do; off: of all three channels. Other metrics choose for themselves.",
                ),
                io.String.Input(
                    "labels",
                    default="",
                    advanced=True,
                    tooltip="Names for the bars with commas: of the images, then of those in compare. Empty: 1, 2, 3.",
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="The true picture, in the size of image: one, or one for each. Without it metrics that compare are left out.",
                ),
                io.Image.Input(
                    "compare",
                    optional=True,
                    tooltip="Other pictures of the same size, such as a plain enlargement: measured beside image, and not in score.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: every metric's values and mean, and what was left out and why.",
                ),
                io.Float.Output(display_name="score", tooltip="Mean of the first metric that could be computed."),
                io.Image.Output(
                    display_name="bars",
                    tooltip="Bars with numbers; where there are several images the best of each metric is green.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        metrics: str,
        crop_border: int,
        y_channel: bool,
        labels: str = "",
        reference: io.Image.Type | None = None,
        compare: io.Image.Type | None = None,
    ) -> io.NodeOutput:
        from ..host.quality import Choices, describe, measure_images
        from ..host.quality_bars import bars

        rgb, _ = split_image(image)
        truth = None if reference is None else split_image(reference, "reference")[0]
        other = None if compare is None else split_image(compare, "compare")[0]
        measured, report = measure_images(rgb, truth, other, Choices(metrics, crop_border, y_channel, labels))
        return output(
            json.dumps(report), measured.first.mean, join_image(bars(measured).movedim(-1, 1)), line=describe(measured)
        )
