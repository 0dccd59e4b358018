"""Small real networks of the host in process: SD-2-like models, DiffBIR-type and ordinary ControlNets, adapters."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

CPU = torch.device("cpu")
SIDE, CONTEXT, CHANNELS = 16, 32, 64
UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": CHANNELS, "num_res_blocks": [1, 1],
    "channel_mult": [1, 1], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 0, 0],
    "transformer_depth_middle": -1, "context_dim": CONTEXT, "use_linear_in_transformer": True, "num_head_channels": 64,
    "num_heads": -1, "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None,
}  # fmt: skip


def fill(network, seed, scale=1.0):
    """Every parameter from a generator: the host's layers are uninitialised memory."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, scale * parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)


def make_patcher(kind, **changes):
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    types = {"eps": "EPS", "v": "V_PREDICTION"}
    if kind == "sdxl":
        config = comfy.supported_models.SDXL({**UNET, "adm_in_channels": 2816, "num_classes": "sequential"})
        model = comfy.model_base.SDXL(config, device=CPU)
    else:
        config = comfy.supported_models.SD20({**UNET, **changes})
        model = comfy.model_base.BaseModel(config, getattr(comfy.model_base.ModelType, types[kind]), device=CPU)
    fill(model.diffusion_model, 0)
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


@pytest.fixture(scope="session")
def patcher(comfy):
    """MODEL patchers by prediction type, made once."""
    made = {}

    def get(kind="eps"):
        if kind not in made:
            made[kind] = make_patcher(kind)
        return made[kind]

    return get


class Encoder:
    """In the place of a VAE: 4 channels from means of 8 x 8 pixels, exact and without weights."""

    latent_channels, downscale_ratio = 4, 8

    def spacial_compression_encode(self):
        return 8

    def encode(self, pixels):
        means = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8) * 2 - 1
        return torch.cat([means, means.mean(1, keepdim=True)], dim=1)


@pytest.fixture(scope="session")
def vae():
    return Encoder()


@dataclass
class Parts:
    """The pack's modules and the networks of a TASR file for the small UNet."""

    comfy: Any
    control: Any
    config: Any
    network: Any

    def module(self, name):
        return self.comfy.module(name)

    def adapters(self, seed=9, design="full", zero=False, sites=None):
        models = self.module("models.time_aware_adapter")
        config = models.TimeAwareAdaptersConfig.for_channels(
            design, CHANNELS, sites or [(CHANNELS, CHANNELS)] * 4, emb_channels=4 * CHANNELS, width=32
        )
        network = models.TimeAwareAdapters(config)
        network.reset_parameters(torch.Generator().manual_seed(seed))
        if not zero:
            fill(network, seed, scale=2.0)
        return self.module("host.control.parts").adapter_part_from_weights(network.state_dict())

    def influence(self, preset="constant", adapters=None, alpha_max=None, **changes):
        from dataclasses import replace

        schedules = self.module("sampling.control_schedule")
        schedule = replace(schedules.PRESETS[preset], **changes)
        return self.module("host.control.adapter").Influence(schedule, adapters, alpha_max)

    def time_aware(self, control, *args, **kwargs):
        return self.module("host.control.adapter").make_time_aware(control, self.influence(*args, **kwargs))


@pytest.fixture(scope="session")
def parts(comfy):
    """A DiffBIR-type ControlNet for the small UNet, behind the pack's loader."""
    networks = comfy.module("host.networks")
    keep = {k: v for k, v in UNET.items() if k not in ("out_channels", "transformer_depth_output")}
    network = networks.controlnet({**keep, "in_channels": 8})
    fill(network, 5, scale=1.0)
    configs = comfy.module("models.latent_control")
    config = configs.LatentControlConfig.from_state_dict(network.state_dict())
    loaded = comfy.module("host.control.controlnet").control_from_weights(network.state_dict(), config, "eps")
    return Parts(comfy, loaded, config, network)


@pytest.fixture(scope="session")
def ordinary(comfy):
    """An ordinary ControlNet of the host, without a hint."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    keep = {k: v for k, v in UNET.items() if k not in ("out_channels", "transformer_depth_output")}
    network = comfy.cldm.cldm.ControlNet(**keep, hint_channels=3, operations=comfy.ops.disable_weight_init)
    fill(network, 6)
    return comfy.controlnet.ControlNet(network.eval(), load_device=CPU)


def prompt(seed, **values):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, 7, CONTEXT, generator=generator), {"pooled_output": torch.zeros(1, CONTEXT), **values}]]


@pytest.fixture(scope="session")
def prompts():
    """A function that makes a random CONDITIONING of a seed."""
    return prompt


def picture(seed, height=8 * SIDE, width=8 * SIDE, batch=1):
    """IMAGE (B, H, W, 3)."""
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def apply(comfy, vae):
    """The host's Apply ControlNet (advanced): positive and negative that carry the control."""

    def run(control, image=None, strength=1.0, start=0.0, end=1.0, positive=None, negative=None, encoder=vae):
        node = comfy.nodes.NODE_CLASS_MAPPINGS["ControlNetApplyAdvanced"]()
        image = picture(3) if image is None else image
        given = positive or prompt(1), negative or prompt(2)
        return node.apply_controlnet(*given, control, image, strength, start, end, vae=encoder)

    return run


@pytest.fixture
def sample(comfy):
    """Runs a sampler of the host: (B, C, h, w) latents out."""
    import comfy.samplers

    def run(patcher, conditioning, *, sampler=None, steps=4, cfg=3.0, seed=7, size=(SIDE, SIDE), batch=1, name="euler"):
        noise = torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(seed))
        sampler = sampler or comfy.samplers.sampler_object(name)
        sigmas = comfy.samplers.KSampler(patcher, steps, CPU, "euler", "normal", 1.0).sigmas
        with torch.inference_mode():
            return comfy.samplers.sample(
                patcher, noise, *conditioning, cfg, CPU, sampler, sigmas, patcher.model_options,
                latent_image=torch.zeros_like(noise), disable_pbar=True, seed=seed,
            )  # fmt: skip

    return run
