"""Conditioning without a text encoder, and the LR condition of ResShift-family MODELs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..host.images import split_image
from .common import CATEGORY, CheckedNode
from .types import OneStepSR

if TYPE_CHECKING:
    from ..host.resshift.loading import OneStepSR as OneStepModel


class ResShiftConditioning(CheckedNode):
    """Puts the LR image into CONDITIONING, for the MODEL that Load One-Step SR gives."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRResShiftConditioning",
            display_name="ResShift Conditioning",
            category=CATEGORY,
            description="Prepares an image for sampling with a ResShift-family MODEL: the enlarged latent to start from, and conditioning that carries the LR image.",
            search_aliases=["resshift", "lr condition", "super resolution conditioning"],
            inputs=[
                OneStepSR.Input("one_step_sr", tooltip="From Load One-Step SR, the same that gives the MODEL."),
                io.Conditioning.Input("positive", tooltip="Any conditioning; its text is not used. Empty Prompt does."),
                io.Conditioning.Input("negative", tooltip="Any conditioning; its text is not used. Sample with cfg 1."),
                io.Image.Input("image", tooltip="The small image. The result has the model's scale (4 for most)."),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="Carries the image: sample the model with this one."
                ),
                io.Conditioning.Output(display_name="negative", tooltip="Carries the image."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="Start of the chain; sample it with denoise 1, scheduler simple and the schedule's steps.",
                ),
            ],
        )

    @classmethod
    def execute(cls, one_step_sr: OneStepModel, positive: list, negative: list, image: io.Image.Type) -> io.NodeOutput:
        from ..host import conditioning

        rgb, _ = split_image(image)
        values, latent = conditioning.lr_condition(one_step_sr, rgb)
        return io.NodeOutput(*(conditioning.with_values(c, values) for c in (positive, negative)), latent)


class EmptyPrompt(CheckedNode):
    """Conditioning without text, shaped for a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSREmptyPrompt",
            display_name="Empty Prompt",
            category=CATEGORY,
            description="Conditioning of zeros in the shape that the model takes, for models without text and for graphs without a text encoder. It is not the encoding of an empty string.",
            search_aliases=["zero conditioning", "unconditional", "null prompt", "no clip"],
            inputs=[io.Model.Input("model", tooltip="The model that will be sampled.")],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="Zeros in the model's shape.")],
        )

    @classmethod
    def execute(cls, model: io.Model.Type) -> io.NodeOutput:
        from ..host import conditioning

        return io.NodeOutput(conditioning.empty_prompt(model))
