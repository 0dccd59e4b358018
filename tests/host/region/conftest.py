"""Small real networks of the host, built in process: eps, v and flow prediction, SDXL with its sizes, and a ControlNet."""

import pytest
import torch

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64, "num_res_blocks": [1, 1],
    "channel_mult": [1, 1], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 0, 0],
    "transformer_depth_middle": -1, "context_dim": 32, "use_linear_in_transformer": True, "num_head_channels": 64,
    "num_heads": -1, "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None,
}  # fmt: skip
MMDIT = {
    "input_size": None, "patch_size": 2, "in_channels": 16, "depth": 2, "adm_in_channels": 32, "num_patches": 1024,
    "pos_embed_max_size": 32, "pos_embed_scaling_factor": None,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 32, "out_features": 128}},
}  # fmt: skip


def fill(network, seed):
    """Every parameter from a generator: the host's layers are uninitialised memory."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        for name, buffer in network.named_buffers():
            if "pos_embed" in name:
                buffer.normal_(0, 1, generator=generator)


def make_patcher(kind, **changes):
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    cpu = torch.device("cpu")
    if kind == "flow":
        config = comfy.supported_models.SD3(dict(MMDIT))
        model = comfy.model_base.SD3(config, device=cpu)
    elif kind == "sdxl":
        config = comfy.supported_models.SDXL({**UNET, "adm_in_channels": 2816, "num_classes": "sequential"})
        model = comfy.model_base.SDXL(config, device=cpu)
    else:
        config = comfy.supported_models.SD20({**UNET, **changes})
        types = {"eps": "EPS", "v": "V_PREDICTION", "edm": "V_PREDICTION_EDM"}
        model = comfy.model_base.BaseModel(config, getattr(comfy.model_base.ModelType, types[kind]), device=cpu)
    fill(model.diffusion_model, 0)
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


@pytest.fixture(scope="session")
def patcher(comfy):
    """MODEL patchers by prediction type, made once."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = make_patcher(kind)
        return made[kind]

    return get


def prompt(seed, kind="eps", **values):
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, 1280 if kind == "sdxl" else 32, generator=generator)
    return [[torch.randn(1, 7, 32, generator=generator), {"pooled_output": pooled, **values}]]


@pytest.fixture(scope="session")
def prompts():
    """A function that makes a random CONDITIONING of a seed, with more values."""
    return prompt


@pytest.fixture(scope="session")
def region(comfy):
    """The pack's modules behind the nodes, as the host knows them."""
    return comfy.module("host.regions.sampler")


@pytest.fixture
def sample(comfy):
    """Runs a SAMPLER on a patcher: (B, C, h, w) latents in, latents out."""
    import comfy.samplers

    def run(patcher, sampler, positive, negative, latent, noise, *, steps=4, cfg=3.0, denoise=1.0, mask=None, scheduler="normal", seed=7, callback=None, sigmas=None):  # fmt: skip
        levels = comfy.samplers.KSampler(patcher, steps, patcher.load_device, "euler", scheduler, denoise).sigmas
        with torch.inference_mode():
            return comfy.samplers.sample(
                patcher, noise, positive, negative, cfg, patcher.load_device, sampler, levels if sigmas is None else sigmas,
                patcher.model_options, latent_image=latent, denoise_mask=mask, callback=callback, disable_pbar=True, seed=seed,
            )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def control(comfy):
    """A ControlNet for the small UNet, with a hint and a strength."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = {k: v for k, v in UNET.items() if k not in ("out_channels", "transformer_depth_output")}
    network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, operations=comfy.ops.disable_weight_init)
    fill(network, 5)
    network.eval()
    kept = []  # the host trips over ControlNets that it has loaded and that are gone while their network lives

    def make(hint, strength=1.0, percents=(0.0, 1.0), previous=None):
        link = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
        kept.append(link)
        link.set_cond_hint(hint, strength, percents)
        return link.set_previous_controlnet(previous)

    return make


@pytest.fixture(scope="session")
def concat_patcher(comfy):
    """An eps model with four more input channels, as inpainting and editing models have."""
    return make_patcher("eps", in_channels=8)


@pytest.fixture(scope="session")
def half_precision(comfy):
    """An eps model in float16 whose last layer overflows there, and does not in float32."""
    made = make_patcher("eps", dtype=torch.float16)
    with torch.no_grad():
        made.model.diffusion_model.out[2].weight.mul_(30000)
    return made
