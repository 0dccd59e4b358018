"""Region Cost Forecast and Region Report: what a region run will cost, and where its steps went."""

from __future__ import annotations

import json
from dataclasses import asdict

from comfy_api.latest import io

from ..host.images import check_room, join_image, split_image
from .common import CheckedNode, output
from .region import check_tile

CATEGORY = "image/upscaling/AdaptiveSR/analysis"


class UpscalePlan(CheckedNode):
    """Says before a run what it will cost."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRUpscalePlan",
            display_name="Region Cost Forecast",
            category=CATEGORY,
            description="Forecast for Tiled Region Sampler with every step in every region, the most that it can be with a budget map or gain: tiles, model calls, latent Mpx, counted arithmetic, the next cheaper and the next safer tiles, and memory by the host's estimate. Passes its settings on.",
            search_aliases=["cost", "plan", "estimate", "tile count", "vram estimate", "upscale size"],
            inputs=[
                io.Model.Input("model", tooltip="The model that will be sampled."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=1,
                    max=65536,
                    tooltip="Width of the small picture in pixels; not used where image is connected.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=1,
                    max=65536,
                    tooltip="Height of the small picture in pixels; not used where image is connected.",
                ),
                io.Float.Input(
                    "scale", default=4.0, min=0.1, max=16.0, step=0.05, tooltip="How many times larger the result is."
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="As in Tiled Region Sampler."),
                io.Float.Input(
                    "cfg",
                    default=6.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="As in Tiled Region Sampler; 1 halves the work.",
                ),
                io.Int.Input(
                    "tile_size", default=0, min=0, max=8192, step=8, tooltip="As in Tiled Region Sampler; 0 chooses."
                ),
                io.Int.Input("overlap", default=64, min=0, max=4096, step=8, tooltip="As in Tiled Region Sampler."),
                io.Int.Input(
                    "region_batch",
                    default=0,
                    min=0,
                    max=256,
                    advanced=True,
                    tooltip="As in Tiled Region Sampler; 0: what fits beside the model.",
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="Takes width, height and the number of images from here."
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="plan",
                    tooltip="JSON: size, tiles, calls, latent Mpx, memory in GB; the tiles chosen, what they cost (TFLOP of the published network, where it was counted), and tile_size and overlap of the next cheaper and the next safer choice. With a budget map or gain, the most.",
                ),
                io.Int.Output(display_name="width", tooltip="Width of the result, in whole latent cells."),
                io.Int.Output(display_name="height", tooltip="Height of the result, in whole latent cells."),
                io.Int.Output(display_name="steps", tooltip="As it came in: connect it to Tiled Region Sampler."),
                io.Float.Output(display_name="cfg", tooltip="As it came in: connect it to Tiled Region Sampler."),
                io.Int.Output(display_name="tile_size", tooltip="As it came in: connect it to Tiled Region Sampler."),
                io.Int.Output(display_name="overlap", tooltip="As it came in: connect it to Tiled Region Sampler."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        width: int,
        height: int,
        scale: float,
        steps: int,
        cfg: float,
        tile_size: int,
        overlap: int,
        region_batch: int = 0,
        image: io.Image.Type | None = None,
    ) -> io.NodeOutput:
        from ..host.loading import latent_format
        from ..host.regions.run import plan
        from ..host.regions.sampler import RegionOptions
        from ..sampling.adaptive.plan import target_size

        images, height, width = (1, height, width) if image is None else image.shape[:3]
        cell = latent_format(model).spacial_downscale_ratio
        width, height = (target_size(side, scale, cell) for side in (width, height))
        check_room(images, height, width)
        check_tile(tile_size)
        passes = 1 if cfg == 1.0 else 2
        options = RegionOptions(tile_size, overlap, rows=region_batch)
        forecast, memory, tiles = plan(model, width, height, images, steps, options, passes=passes)
        counts = asdict(forecast)
        cells = counts.pop("latent_cells")
        counts["region_calls"] = counts.pop("rows")
        text = json.dumps(
            {
                "size": f"{width}x{height}",
                **counts,
                "latent_mpx": round(cells / 1e6, 6),
                "latent_mpx_with_guidance": round(passes * cells / 1e6, 6),
                **memory,
                "tiling": tiles,
            }
        )
        return output(text, width, height, steps, cfg, tile_size, overlap, line=text)


class RegionReport(CheckedNode):
    """Shows where the steps went."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRRegionReport",
            display_name="Region Report",
            category=CATEGORY,
            description="Lays the heat map of steps per region over a picture, with numbers, classes of calls and a colour scale, and puts the report into words.",
            search_aliases=["heat map", "steps per region", "region map", "report"],
            inputs=[
                io.String.Input("report", force_input=True, tooltip="From Tiled Region Sampler."),
                io.Image.Input("image", tooltip="The picture that was sampled, of any size."),
                io.Float.Input(
                    "opacity", default=0.45, min=0.0, max=1.0, step=0.05, tooltip="How much the map covers the picture."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="At most 1024 pixels on its longer side, plus the scale."
                ),
                io.String.Output(
                    display_name="summary",
                    tooltip="The report in a few words; with gain a line for every region: classes of its calls, why it ended.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, report: str, image: io.Image.Type, opacity: float) -> io.NodeOutput:
        from ..host.regions.heat_map import read_report, region_map
        from ..sampling.adaptive.plan import describe, describe_gains

        values = read_report(report)
        rgb, _ = split_image(image)
        picture = region_map(values, rgb.movedim(1, -1), opacity)
        summary = "\n".join(filter(None, (describe(values), describe_gains(values))))
        return output(join_image(picture.movedim(-1, 1)), summary, line=summary)
