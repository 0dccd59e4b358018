"""Train Noise Predictor."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io

from ...host.files import LATENT_LPIPS, list_files
from ...host.images import join_image
from ...host.training.files import INVSR, NO_LPIPS, folder_state
from ...imaging.degradation.choices import PRESET_NAMES
from ...training.invsr.config import OWN, PAPER, PRESETS, SIZES, InvSRConfig, InvSROptions
from ..common import TRAINING, CheckedNode, fingerprint, output
from ..types import NoisePredictor
from .inputs import folder_input, name_input, rate_input, resume_input, save_input, steps_input

DEFAULTS, RUN = InvSRConfig(), InvSROptions(steps=1000)


class TrainNoisePredictor(CheckedNode):
    """InvSR's training inside of the graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRTrainNoisePredictor",
            display_name="Train Noise Predictor",
            category=TRAINING,
            description="Trains the network that predicts SD-Turbo's start noise from a small picture, on your pictures, as InvSR does. Saves a file that Load Noise Predictor offers, and a state from which the run can go on.",
            search_aliases=["invsr", "train noise predictor", "diffusion inversion", "sd turbo training", "finetune"],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                *network_inputs(),
                *main_inputs(),
                *data_inputs(),
                *loss_inputs(),
                *run_inputs(),
                *optional_inputs(),
            ],
            outputs=[
                NoisePredictor.Output(
                    display_name="noise_predictor",
                    tooltip="The trained network, for InvSR Noise and Super Resolution (InvSR).",
                ),
                io.Image.Output(display_name="losses", tooltip="Every part of the loss over the steps."),
                io.Image.Output(
                    display_name="samples", tooltip="LR, one step from each trained start, and truth of a few pictures."
                ),
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
    def execute(cls, model: Any, vae: Any, positive: list, preset: str, steps: int, **inputs: Any) -> io.NodeOutput:
        from ...host.training.invsr import InvSRSource, settings_of, train_noise_predictor
        from ...host.training.run import describe, from_inputs

        config, settings = settings_of(preset, inputs), from_inputs(InvSROptions, inputs, steps=steps)
        given = (inputs.get("images"), inputs.get("test_images"), inputs.get("noise_predictor"))
        source = InvSRSource(positive, inputs.get("image_folder", ""), *given)
        lpips = inputs.get("latent_lpips", NO_LPIPS)
        trained = train_noise_predictor(model, vae, source, lpips, config, settings)
        pictures = join_image(trained.losses), join_image(trained.samples)
        return output(trained.predictor, *pictures, json.dumps(trained.report), line=describe(trained.report))


def network_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="SD-Turbo, from Load Checkpoint; it stays as it is."),
        io.Vae.Input("vae", tooltip="The VAE of the SD-Turbo checkpoint; it stays as it is."),
        io.Conditioning.Input(
            "positive",
            tooltip="The prompt of all pictures. The published one is in the workflow invsr; upscale with the one that you trained with.",
        ),
    ]


def main_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=[*PRESETS, OWN],
            default=PAPER,
            tooltip="paper: the published losses, start steps and optimisers, whatever the inputs from batch_size to ema_decay say. Table 6: the same without latent LPIPS. own settings: those inputs.",
        ),
        steps_input(RUN.steps, paper="The paper: 100000 at batch 64."),
        io.Combo.Input(
            "latent_lpips",
            options=[NO_LPIPS, *list_files(LATENT_LPIPS)],
            default=NO_LPIPS,
            tooltip="vgg16_sdturbo_lpips.pth of InvSR's authors, in models/adaptivesr/latent_lpips. Without it choose the preset without latent LPIPS, or lpips_weight 0.",
        ),
        io.Int.Input(
            "microbatch",
            default=1,
            min=0,
            max=256,
            tooltip="Crops in one forward pass; gradients are summed over the batch. More is faster and needs more memory. 0: all.",
        ),
        io.Int.Input(
            "seed",
            advanced=True,
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=False,
            tooltip="Of crops, degradations, noise, start steps and of fresh networks.",
        ),
    ]


def data_inputs() -> list[io.Input]:
    return [
        folder_input(),
        io.Combo.Input(
            "degradation",
            options=list(PRESET_NAMES),
            default=RUN.degradation,
            tooltip="How the LR pictures are made. invsr: the paper's training.",
        ),
        io.Int.Input(
            "crop_size",
            advanced=True,
            default=RUN.crop,
            min=64,
            max=2048,
            step=64,
            tooltip="Side of the sharp crops in pixels, four times that of the LR picture; smaller pictures are enlarged. The paper: 512.",
        ),
        io.Combo.Input(
            "size",
            options=list(SIZES),
            default=RUN.size,
            advanced=True,
            tooltip="Of a fresh predictor and of the discriminator. paper: 34 M and 112 M parameters. small: ours, for trials.",
        ),
        name_input(RUN.name),
        resume_input(INVSR),
    ]


def loss_inputs() -> list[io.Input]:
    def weight(name: str, default: float, tooltip: str) -> io.Input:
        return io.Float.Input(name, default=default, min=0.0, max=100.0, step=0.001, advanced=True, tooltip=tooltip)

    return [
        io.Int.Input(
            "batch_size",
            default=DEFAULTS.batch,
            min=1,
            max=256,
            advanced=True,
            tooltip="Crops per step. The paper: 64.",
        ),
        io.String.Input(
            "taus",
            default=", ".join(map(str, DEFAULTS.taus)),
            advanced=True,
            tooltip="Start steps to train, of which each crop gets one; they are written into the file, and InvSR's nodes read them there. The paper: 250, 200, 150, 100.",
        ),
        weight("mse_weight", DEFAULTS.mse_weight, "Of the latent's squared error. The paper: 1."),
        weight("lpips_weight", DEFAULTS.lpips_weight, "Of the latent LPIPS. The paper: 2; 0: without it."),
        weight("adversarial_weight", DEFAULTS.adversarial_weight, "Of the discriminator's verdict. The paper: 0.1."),
        io.Int.Input(
            "adversarial_after",
            default=DEFAULTS.adversarial_after,
            min=0,
            max=1_000_000,
            advanced=True,
            tooltip="Steps before the predictor is told the verdict; the discriminator learns from the first on. Public code: 10000.",
        ),
        rate_input(
            "learning_rate", DEFAULTS.lr, "The predictor's, AdamW, constant after the warm-up. The paper: 0.00005."
        ),
        rate_input("discriminator_learning_rate", DEFAULTS.discriminator_lr, "Adam, constant. Public code: 0.00005."),
        io.Int.Input(
            "warmup",
            default=DEFAULTS.warmup,
            min=0,
            max=1_000_000,
            advanced=True,
            tooltip="Steps over which the predictor's learning rate rises. Public code: 2000.",
        ),
        io.Float.Input(
            "ema_decay",
            default=DEFAULTS.ema_decay,
            min=0.0,
            max=0.99999,
            step=0.0001,
            round=False,
            advanced=True,
            tooltip="Of the averaged weights, which are what is saved. Public code: 0.999.",
        ),
    ]


def run_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "precision",
            options=["bfloat16", "float32"],
            default=RUN.precision,
            advanced=True,
            tooltip="Of the frozen networks and of the arithmetic; what is trained stays in float32. CPUs compute in float32 either way.",
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=RUN.checkpointing,
            advanced=True,
            tooltip="Keeps less in memory and computes it again: slower, the same result.",
        ),
        io.Int.Input(
            "samples_every",
            default=RUN.samples_every,
            min=0,
            max=1_000_000,
            advanced=True,
            tooltip="Steps between sample pictures in output/adaptivesr/training; 0: none.",
        ),
        save_input(RUN.save_every, " (about 1.9 GB)"),
    ]


def optional_inputs() -> list[io.Input]:
    return [
        NoisePredictor.Input(
            "noise_predictor",
            optional=True,
            tooltip="A predictor to go on from, such as the published one; without it a fresh one is trained.",
        ),
        io.Image.Input("images", optional=True, tooltip="Sharp pictures to train on, in place of image_folder."),
        io.Image.Input(
            "test_images",
            optional=True,
            tooltip="Sharp pictures for the samples, the middle of the first four; without them crops of the training pictures.",
        ),
    ]
