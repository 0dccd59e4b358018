"""A small SD-2.1-shaped MODEL of the host with a small StableSR file in the published key layout."""

import os

import pytest
import torch
from adaptivesr.tools.small_models.stablesr import small_stablesr
from safetensors.torch import save_file

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64, "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 1, 2], "transformer_depth": [1, 1, 0], "transformer_depth_output": [1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1, "context_dim": 32, "use_linear_in_transformer": True, "num_head_channels": 64,
    "num_heads": -1, "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None,
}  # fmt: skip
FILE = "small_stablesr_for_tests.safetensors"


def fill(network, seed):
    """Every parameter from a generator: the host's layers are uninitialised memory."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))


def make_model(prediction="EPS", kind="SD20", **changes):
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    cpu = torch.device("cpu")
    config = getattr(comfy.supported_models, kind)({**UNET, **changes})
    model = comfy.model_base.BaseModel(config, getattr(comfy.model_base.ModelType, prediction), device=cpu)
    fill(model.diffusion_model, 0)
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


@pytest.fixture(scope="session")
def model(comfy):
    """An eps MODEL of three levels."""
    return make_model()


@pytest.fixture(scope="session")
def folder(comfy):
    """The host's folder for StableSR files."""
    import folder_paths

    path = os.path.join(folder_paths.models_dir, "adaptivesr", "stablesr")
    os.makedirs(path, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def weights(comfy, model):
    """Tensors of a StableSR file for `model`, by published key."""
    patch = comfy.module("host.stablesr.patch")
    blocks = {p.name: p.block.out_channels for p in patch.residual_blocks(model.model.diffusion_model)}
    return small_stablesr(blocks, levels=3)


@pytest.fixture(scope="session")
def load(comfy, folder):
    """Writes tensors as a file and loads it as the node does."""
    import folder_paths

    def write_and_load(tensors, name=FILE):
        save_file(tensors, os.path.join(folder, name))
        folder_paths.filename_list_cache.clear()
        return comfy.module("host.stablesr.loading").load_stablesr(name)

    return write_and_load


@pytest.fixture(scope="session")
def stablesr(load, weights):
    """STABLESR of the small file."""
    return load(weights)


@pytest.fixture(scope="session")
def apply(comfy, stablesr):
    """StableSR Apply on an unscaled LR latent."""

    def run(model, positive, negative, latent, strength=1.0, parts=None):
        host = comfy.module("host.stablesr.loading")
        return host.apply_stablesr(model, positive, negative, parts or stablesr, {"samples": latent}, strength)[:3]

    return run


@pytest.fixture(scope="session")
def prompts():
    """A function that makes a random CONDITIONING of a seed, with more values."""

    def make(seed, tokens=7, **values):
        generator = torch.Generator().manual_seed(seed)
        return [[torch.randn(1, tokens, UNET["context_dim"], generator=generator), values]]

    return make


@pytest.fixture(scope="session")
def randn():
    """Normal values of a shape and a seed."""
    return lambda *shape, seed=0: torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def build():
    """`make_model`: other MODELs of the same kind."""
    return make_model


@pytest.fixture
def sample(comfy):
    """The host's sampler on a patcher: latents (B, 4, h, w) in the host's scale, in and out."""
    import comfy.sample

    def run(patcher, positive, negative, latent, noise, *, steps=3, cfg=3.0):
        with torch.inference_mode():
            return comfy.sample.sample(
                patcher, noise, steps, cfg, "euler", "normal", positive, negative, latent, 1.0, disable_pbar=True, seed=0
            )  # fmt: skip

    return run
