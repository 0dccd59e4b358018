"""InvSR's networks in the host: the small SD-2 checkpoint, a tiny predictor, and models that are no base for it."""

from pathlib import Path

import pytest
import torch
from adaptivesr.tools.small_models.checkpoints import put_small_checkpoint
from adaptivesr.tools.small_models.tiny import TINY_PREDICTOR

DEFAULTS = {
    "steps": 1, "taus": "", "seed": 0, "strength": 1.0, "patch_size": 32, "overlap": 8, "patch_batch": 0,
}  # fmt: skip


@pytest.fixture(scope="session")
def checkpoint(comfy, tmp_path_factory):
    """(MODEL, VAE) of the small checkpoint, as CheckpointLoaderSimple gives them."""
    import comfy.sd

    path = put_small_checkpoint(tmp_path_factory.mktemp("sd_turbo"))
    return comfy.sd.load_checkpoint_guess_config(str(path), output_clip=False)[0::2]


@pytest.fixture(scope="session")
def predictor(comfy):
    """NOISE_PREDICTOR of the tiny file."""
    return comfy.module("host.invsr.loading").load_noise_predictor(TINY_PREDICTOR)


@pytest.fixture(scope="session")
def prompt():
    """CONDITIONING without text in SD 2's shape."""
    return [[torch.zeros(1, 77, 1024), {"pooled_output": torch.zeros(1, 1024)}]]


@pytest.fixture
def upscale(comfy, checkpoint, predictor, prompt):
    """Super Resolution (InvSR) with small patches but for what is given: (IMAGE, report); `run.ui` is what it said to the page last."""
    import json

    def run(image, *, model=None, vae=None, positive=None, **inputs):
        node = comfy.node("AdaptiveSRInvSRUpscale")
        first = (model or checkpoint[0], positive or prompt, prompt, vae or checkpoint[1], predictor, image)
        with torch.inference_mode():
            output = node.execute(*first, **{**DEFAULTS, **inputs})
        result, report = output.args
        run.ui = output.ui
        return result, json.loads(report)

    return run


@pytest.fixture
def noise_for(comfy, checkpoint, predictor):
    """InvSR Noise with small patches but for what is given: (NOISE, SIGMAS, LATENT)."""

    def run(image, latent, *, model=None, **inputs):
        node = comfy.node("AdaptiveSRInvSRNoise")
        with torch.inference_mode():
            return node.execute(predictor, model or checkpoint[0], image, latent, **{**DEFAULTS, **inputs}).args

    return run


@pytest.fixture(scope="session")
def base(comfy):
    """A function that makes a MODEL without a network, of a kind of the host's and a width of its text."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    def make(kind, prediction, width):
        config = getattr(comfy.supported_models, kind)({"disable_unet_model_creation": True, "context_dim": width})
        model = comfy.model_base.BaseModel(
            config, getattr(comfy.model_base.ModelType, prediction), device=torch.device("cpu")
        )
        return comfy.model_patcher.ModelPatcher(
            model, load_device=torch.device("cpu"), offload_device=torch.device("cpu")
        )

    return make


@pytest.fixture(scope="session")
def folder(comfy):
    """The folder of noise predictors in the host."""
    import folder_paths

    return Path(folder_paths.folder_names_and_paths["adaptivesr_noise_predictor"][0][0])
