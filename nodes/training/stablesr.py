"""Train StableSR."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io

from ...host.images import join_image
from ...host.training.files import STABLESR, folder_state
from ...imaging.degradation.choices import PRESET_NAMES
from ...training.config import OWN_SETTINGS
from ...training.stablesr.config import PRESETS, SIZES, STARTS, StableSRConfig, StableSROptions
from ..common import TRAINING, CheckedNode, fingerprint, output
from ..types import StableSR
from .inputs import (
    accumulate_input,
    beside_frozen_inputs,
    folder_input,
    name_input,
    rate_input,
    resume_input,
    steps_input,
)

DEFAULTS, SETTINGS = StableSRConfig(), StableSROptions(steps=1000)


class TrainStableSR(CheckedNode):
    """StableSR's training inside of the graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRTrainStableSR",
            display_name="Train StableSR",
            category=TRAINING,
            description="Trains StableSR's time-aware encoder and SFT layers beside a frozen Stable Diffusion, on your pictures. Saves a file that Load StableSR offers, and a state from which the run can go on.",
            search_aliases=["stablesr", "train stablesr", "struct cond", "spade", "sft", "adadiffsr base", "finetune"],
            is_output_node=True,
            is_experimental=True,
            inputs=[*main_inputs(), *data_inputs(), *advanced_inputs(), *optional_inputs()],
            outputs=[
                StableSR.Output(display_name="stablesr", tooltip="Encoder and SFT layers, ready for StableSR Apply."),
                io.Image.Output(display_name="losses", tooltip="The loss over the steps."),
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
    def execute(cls, model: Any, vae: Any, settings: str, steps: int, **inputs: Any) -> io.NodeOutput:
        from ...host.training.run import describe
        from ...host.training.stablesr import settings_of, train_stablesr

        config = settings_of(StableSRConfig, settings, inputs)
        options = settings_of(StableSROptions, settings, inputs, steps=steps)
        source = inputs.get("image_folder", ""), inputs.get("images")
        start = inputs.get("stablesr")
        trained = train_stablesr(model, vae, inputs.get("positive"), source, start, config, options)
        return output(
            trained.parts, join_image(trained.losses), json.dumps(trained.report), line=describe(trained.report)
        )


def main_inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "model", tooltip="Stable Diffusion 2.1-base (512, noise) or 2.1 (768, v), or another of its kind; frozen."
        ),
        io.Vae.Input("vae", tooltip="The checkpoint's VAE; frozen."),
        io.Combo.Input(
            "settings",
            options=[OWN_SETTINGS, *PRESETS],
            default=OWN_SETTINGS,
            tooltip="paper: batch 6 in 32 accumulated batches, crop 512, sharpened targets, published size. paper, 768: batch 3, crop 768. adadiffsr base: as paper, without weight decay. They overrule the inputs below.",
        ),
        steps_input(SETTINGS.steps, 10_000_000),
        io.Int.Input("batch_size", default=DEFAULTS.batch, min=1, max=256, tooltip="Pairs at a time. The paper: 6."),
        accumulate_input(DEFAULTS.accumulate, ": the paper's 192 pairs a step are 32 batches of 6."),
        rate_input("learning_rate", DEFAULTS.lr, "AdamW, constant. The paper: 0.00005."),
        io.Combo.Input(
            "size",
            options=list(SIZES),
            default=SETTINGS.size,
            advanced=True,
            tooltip="Of a fresh encoder. paper: 105 M parameters with the SFT layers of SD 2.1. small and tiny: for small bases (ours).",
        ),
    ]


def data_inputs() -> list[io.Input]:
    return [
        folder_input(),
        io.Combo.Input(
            "degradation",
            options=list(PRESET_NAMES),
            default=SETTINGS.degradation,
            tooltip="How the LR pictures are made: stablesr for 512, stablesr_768 for 768, adadiffsr for its base.",
        ),
        io.Boolean.Input(
            "sharpened",
            default=DEFAULTS.sharpened,
            advanced=True,
            tooltip="Targets are sharpened (unsharp mask, public code): on for 512, off for 768.",
        ),
        io.Int.Input(
            "crop_size", default=SETTINGS.crop, min=64, max=2048, step=64, tooltip="Side of the crops in pixels."
        ),
        io.Int.Input(
            "seed",
            advanced=True,
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=False,
            tooltip="Of crops, degradations, noise, timesteps and the fresh encoder.",
        ),
        name_input(SETTINGS.name),
        resume_input(STABLESR),
    ]


def advanced_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "start",
            options=list(STARTS),
            default=DEFAULTS.start,
            advanced=True,
            tooltip="Of a fresh encoder. near the base: SFT layers give back on average what they get, so that the first pictures are the base's (ours). fresh norms: as the public code, which shifts the frozen base at first.",
        ),
        io.Float.Input(
            "weight_decay",
            default=DEFAULTS.weight_decay,
            min=0.0,
            max=0.5,
            step=0.001,
            advanced=True,
            tooltip="Of AdamW. The public code: 0.01.",
        ),
        *beside_frozen_inputs(
            SETTINGS.precision,
            SETTINGS.checkpointing,
            SETTINGS.save_every,
            saved="much less",
            samples="LR, restored in 20 steps, true",
            state="about 1.3 GB for SD 2.1",
        ),
    ]


def optional_inputs() -> list[io.Input]:
    return [
        StableSR.Input("stablesr", optional=True, tooltip="A file of Load StableSR to go on from, published or yours."),
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip="Prompt of all pictures: CLIP Text Encode with an empty text for the paper's null prompt. Without it zeros. Only the first entry is used.",
        ),
        io.Image.Input("images", optional=True, tooltip="Pictures to train on, in place of image_folder."),
    ]
