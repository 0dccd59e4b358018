"""Train CFW."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io

from ...host.images import join_image
from ...host.training.files import CFW as CFW_RUNS
from ...host.training.files import folder_state
from ...imaging.degradation.choices import PRESET_NAMES
from ...training.cfw.config import PERCEPTUAL, PRESETS, SIZES, STARTS, CFWOptions, CFWTrainConfig
from ...training.config import OWN_SETTINGS
from ..common import TRAINING, CheckedNode, fingerprint, output
from ..types import CFW, StableSR
from .inputs import (
    accumulate_input,
    beside_frozen_inputs,
    folder_input,
    name_input,
    rate_input,
    resume_input,
    steps_input,
)

DEFAULTS, SETTINGS = CFWTrainConfig(), CFWOptions(steps=1000)


class TrainCFW(CheckedNode):
    """The training of StableSR's fusion layers inside of the graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRTrainCFW",
            display_name="Train CFW",
            category=TRAINING,
            description="Trains StableSR's fusion layers beside a frozen VAE, on triples of LR picture, true picture and sampled latent that it makes of your pictures and keeps on disk. Saves a file that Load CFW offers.",
            search_aliases=[
                "stablesr",
                "train cfw",
                "vqgan_cfw",
                "controllable feature wrapping",
                "fusion",
                "finetune",
            ],
            is_output_node=True,
            is_experimental=True,
            inputs=[*main_inputs(), *data_inputs(), *advanced_inputs(), *optional_inputs()],
            outputs=[
                CFW.Output(display_name="cfw", tooltip="Fusion layers, ready for CFW Decode."),
                io.Image.Output(display_name="losses", tooltip="The losses over the steps."),
                io.String.Output(
                    display_name="report", tooltip="JSON: files, steps, losses of the first and last tenth of the run."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, image_folder: str = "", **inputs: Any) -> str:
        return fingerprint(folder_state, image_folder)

    @classmethod
    def execute(cls, model: Any, vae: Any, stablesr: Any, settings: str, steps: int, **inputs: Any) -> io.NodeOutput:
        from ...host.training.cfw import Sampler, train_cfw
        from ...host.training.run import describe, preset_inputs

        config = preset_inputs(CFWTrainConfig, PRESETS, settings, inputs)
        options = preset_inputs(CFWOptions, PRESETS, settings, inputs, steps=steps)
        source = inputs.get("image_folder", ""), inputs.get("images")
        sampler = Sampler(model, vae, stablesr, inputs.get("positive"))
        trained = train_cfw(sampler, source, inputs.get("cfw"), config, options)
        return output(
            trained.loaded, join_image(trained.losses), json.dumps(trained.report), line=describe(trained.report)
        )


def main_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The base that stablesr belongs to: SD 2.1-base (512) or 2.1 (768); frozen."),
        io.Vae.Input("vae", tooltip="KL VAE of the SD checkpoint, or the one that Load CFW gives; frozen."),
        StableSR.Input("stablesr", tooltip="From Load StableSR: with MODEL it samples the latents of the triples."),
        io.Combo.Input(
            "settings",
            options=[OWN_SETTINGS, *PRESETS],
            default=OWN_SETTINGS,
            tooltip="paper: 100,000 triples of 200 steps, crop 512, batch 1 in 8 accumulated batches, LPIPS, published size. It overrules the inputs below.",
        ),
        steps_input(SETTINGS.steps, 10_000_000),
        io.Int.Input(
            "batch_size",
            default=DEFAULTS.batch,
            min=1,
            max=256,
            advanced=True,
            tooltip="Triples at a time. The paper: 1.",
        ),
        accumulate_input(DEFAULTS.accumulate, ". The paper: 8."),
        rate_input(
            "learning_rate", DEFAULTS.lr, "Adam, constant, of fusion layers and discriminator. The paper: 0.00005."
        ),
        io.Combo.Input(
            "size",
            options=list(SIZES),
            default=SETTINGS.size,
            advanced=True,
            tooltip="Of fresh fusion layers and of the discriminator. paper: 44.4 M parameters with SD 2.1's VAE. small: for trials (ours).",
        ),
    ]


def data_inputs() -> list[io.Input]:
    return [
        folder_input(),
        io.Combo.Input(
            "degradation",
            options=list(PRESET_NAMES),
            default=SETTINGS.degradation,
            tooltip="How the LR pictures are made: as StableSR was trained.",
        ),
        io.Int.Input(
            "crop_size",
            default=SETTINGS.crop,
            min=64,
            max=2048,
            step=64,
            advanced=True,
            tooltip="Side of the crops in pixels.",
        ),
        io.Int.Input(
            "triples",
            default=SETTINGS.triples,
            min=1,
            max=1_000_000,
            tooltip="LR picture, true picture and sampled latent, made before the first step and kept in output/adaptivesr/training (1.6 MB each at 512). The same settings find them again, more of them add to them. The paper: 100,000.",
        ),
        io.Int.Input(
            "sampling_steps",
            default=SETTINGS.sampling_steps,
            min=1,
            max=1000,
            advanced=True,
            tooltip="Steps of the chain that gives a triple's latent. The paper: 200.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=False,
            advanced=True,
            tooltip="Of crops, degradations, noise, the order of the triples and fresh layers.",
        ),
        name_input(SETTINGS.name),
        resume_input(CFW_RUNS),
    ]


def advanced_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "perceptual",
            options=list(PERCEPTUAL),
            default=DEFAULTS.perceptual,
            tooltip="Beside the absolute error. LPIPS: pyiqa's, with VGG16 as in the paper; pyiqa fetches its weights at first use. gradients: edges at their place (ours), which needs no weights.",
        ),
        io.Float.Input(
            "adversarial_weight",
            default=DEFAULTS.adversarial_weight,
            min=0.0,
            max=10.0,
            step=0.005,
            round=False,
            advanced=True,
            tooltip="Of the discriminator's verdict, fixed. The paper: 0.025. 0: none.",
        ),
        io.Int.Input(
            "adversarial_after",
            default=DEFAULTS.adversarial_after,
            min=0,
            max=10_000_000,
            advanced=True,
            tooltip="Steps before the discriminator joins. The paper: 501.",
        ),
        io.Combo.Input(
            "start",
            options=list(STARTS),
            default=DEFAULTS.start,
            advanced=True,
            tooltip="Of fresh layers. near the VAE: they add nothing at first, so that the first pictures are the VAE's (ours). fresh: torch's own spread of weights.",
        ),
        *beside_frozen_inputs(
            SETTINGS.precision,
            SETTINGS.checkpointing,
            SETTINGS.save_every,
            saved="less",
            samples="LR, the VAE alone, with fusion, true",
            state="about 0.6 GB at the paper's size",
        ),
    ]


def optional_inputs() -> list[io.Input]:
    return [
        CFW.Input("cfw", optional=True, tooltip="A file of Load CFW to go on from, published or yours."),
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip="Prompt while sampling the triples. Without it zeros. Only the first entry is used.",
        ),
        io.Image.Input("images", optional=True, tooltip="Pictures to train on, in place of image_folder."),
    ]
