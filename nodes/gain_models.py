"""Load MMLE + PFJ."""

from __future__ import annotations

import os

from comfy_api.latest import io

from ..host import files
from ..host.gains import models as gain_models
from ..host.runtime import show_text
from .region import node_id_of
from .types import GainModels


class LoadMMLEPFJ(io.ComfyNode):
    """Gives the trained parts of AdaDiffSR."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRLoadMMLEPFJ",
            display_name="Load MMLE + PFJ",
            category="image/upscaling/AdaptiveSR/loaders",
            description="Loads AdaDiffSR's trained parts: MMLE, which tells from latents what a step gained, and PFJ, which injects features of the input by those gains. A file belongs to one base network.",
            search_aliases=["adadiffsr", "mmle", "pfj", "gain regressor", "feature injection", "load gain models"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=[*gain_models.EMBEDDED, *files.list_files(files.GAIN_MODELS)],
                    tooltip="Files of models/adaptivesr/gain_models and of the training nodes, .safetensors with metadata. 'embedded' ships with the pack and is for the MODEL of Load One-Step SR 'embedded: teacher, 15 steps' only.",
                ),
            ],
            outputs=[
                GainModels.Output(display_name="gain_models", tooltip="For MMLE Gain Estimator and PFJ Inject."),
                io.String.Output(
                    display_name="info", tooltip="The parts, the metrics of their gains and the base they are for."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str) -> str:
        return f"{model_name} {os.path.getmtime(gain_models.model_path(model_name))}"

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        loaded = gain_models.load_gain_models(model_name)
        show_text(loaded.summary, node_id_of(cls))
        return io.NodeOutput(loaded, loaded.summary)
