"""Load MMLE + PFJ."""

from __future__ import annotations

from comfy_api.latest import io

from ..host import files
from .common import LOADERS, CheckedNode, file_input, loader_fingerprint, output
from .types import GainModels


class LoadMMLEPFJ(CheckedNode):
    """Gives the trained parts of AdaDiffSR."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRLoadMMLEPFJ",
            display_name="Load MMLE + PFJ",
            category=LOADERS,
            description="Loads AdaDiffSR's trained parts: MMLE, which tells from latents what a step gained, and PFJ, which injects features of the input by those gains. A file belongs to one base network.",
            search_aliases=["adadiffsr", "mmle", "pfj", "gain regressor", "feature injection", "load gain models"],
            inputs=[
                file_input(
                    "model_name",
                    files.GAIN_MODELS,
                    "Files of models/adaptivesr/gain_models and of the training nodes, .safetensors with metadata. 'embedded' ships with the pack and is for the MODEL of Load One-Step SR 'embedded: teacher, 15 steps' only.",
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
        return loader_fingerprint(files.GAIN_MODELS, model_name)

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        from ..host.gains import models as gain_models

        loaded = gain_models.load_gain_models(model_name)
        return output(loaded, loaded.summary, line=loaded.summary)
