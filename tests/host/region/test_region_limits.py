"""One region is the host's own sampler, whatever the model predicts."""

import pytest
import torch

KINDS = ("eps", "v", "sdxl", "flow")
CHANNELS = {"flow": 16}


def start(kind, batch=1, height=16, width=12):
    generator = torch.Generator().manual_seed(3)
    shape = batch, CHANNELS.get(kind, 4), height, width
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("name", ["euler", "ddim", "dpmpp_2m"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("merge", "denoise"), [("aggregate", 0.5), ("final", 0.5), ("consensus", 1.0)])
def test_one_region_is_the_hosts_sampler(patcher, prompts, region, sample, kind, name, denoise, merge):
    import comfy.samplers

    latent, noise = start(kind, batch=2)
    if denoise == 1.0:
        latent = torch.zeros_like(latent)
    options = region.RegionOptions(tile_px=512, merge=region.MergeMode(merge), sampler=name)
    arguments = prompts(1, kind), prompts(2, kind), latent, noise
    expected = sample(patcher(kind), comfy.samplers.sampler_object(name), *arguments, denoise=denoise)
    result = sample(patcher(kind), region.RegionSampler(options), *arguments, denoise=denoise)
    scale = float(expected.abs().max())
    torch.testing.assert_close(result / scale, expected / scale, atol=1e-5, rtol=0)
