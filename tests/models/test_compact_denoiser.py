from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adaptivesr.models import registry
from adaptivesr.models.compact_denoiser import CompactDenoiser, CompactDenoiserConfig
from adaptivesr.models.pixel_denoiser import PixelDenoiser, PixelDenoiserConfig, precondition, upsampled_latent
from adaptivesr.models.state_dict import UnsupportedModelError
from safetensors.torch import load_file

SMALL = CompactDenoiserConfig(channels=12, blocks=3, time_channels=8, num_steps=5)


def network(*, awake: bool = True) -> CompactDenoiser:
    """A small network; awake ones have no zero kernels left."""
    generator = torch.Generator().manual_seed(0)
    model = CompactDenoiser(SMALL)
    for parameter in model.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    if not awake:
        model.silence()
    return model.requires_grad_(False)


def inputs(batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 48, height, width, generator=generator)
    lq = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
    return x, torch.arange(batch) % SMALL.num_steps, lq


@pytest.mark.parametrize("config", [SMALL, CompactDenoiserConfig(), replace(SMALL, blocks=1, num_steps=15)])
def test_the_config_is_read_back_from_the_state_dict(config: CompactDenoiserConfig):
    state = CompactDenoiser(config, device="meta").state_dict()
    assert CompactDenoiserConfig.from_state_dict(state) == config
    del state["film.weight"]
    with pytest.raises(ValueError, match=r"film\.weight"):
        CompactDenoiserConfig.from_state_dict(state)


def test_the_registry_tells_both_embedded_networks_apart():
    small = registry.identify(CompactDenoiser(SMALL).state_dict())
    assert (small.kind, small.config) == ("compact_denoiser", SMALL)
    assert registry.identify(PixelDenoiser(PixelDenoiserConfig(), device="meta").state_dict()).kind == "pixel_denoiser"
    assert isinstance(registry.build(small), CompactDenoiser)
    incomplete = {key: value for key, value in CompactDenoiser(SMALL).state_dict().items() if key != "head.weight"}
    with pytest.raises(UnsupportedModelError, match=r"head\.weight"):
        registry.identify(incomplete)


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (16, 16), (33, 5)])
def test_any_size_goes_through_at_every_step(size: tuple[int, int]):
    x, t, lq = inputs(SMALL.num_steps, *size)
    out = network()(x, t, lq)
    assert out.shape == x.shape and bool(out.isfinite().all())


def test_a_batch_gives_what_its_images_give_alone():
    model = network()
    x, t, lq = inputs(4, 9, 11)
    together = model(x, t, lq)
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1], lq[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(together.abs().max()))  # kernels differ


def test_a_silent_network_gives_the_bicubic_enlargement():
    model = network(awake=False)
    _, _, lq = inputs(1, 8, 8)
    y = upsampled_latent(lq)
    last = torch.tensor([SMALL.num_steps - 1])
    level = model.level(last)
    c_skip = precondition(level, model.kappa, model.residual_std)[1]
    noise = model.kappa * level * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    scale = (model.kappa**2 * level**2 + 1).sqrt()
    torch.testing.assert_close(model((y + noise) / scale, last, lq), y + c_skip * noise)


def test_noise_and_noise_level_reach_an_awake_network():
    model = network()
    x, t, lq = inputs(1, 6, 6)
    base = model._network(x, model.level(t), lq)
    assert not torch.equal(model._network(-x, model.level(t), lq), base)
    assert not torch.equal(model._network(x, model.level(t + 3), lq), base)


def test_nothing_beyond_the_receptive_field_matters():
    model = network()
    radius = SMALL.receptive_field
    x, t, lq = inputs(1, 1, 2 * radius + 8)
    base = model(x, t, lq)
    changed_x, changed_lq = x.clone(), lq.clone()
    changed_x[..., 0], changed_lq[..., 0] = 5, 0.7
    difference = (model(changed_x, t, changed_lq) - base).abs().amax((0, 1, 2))  # (w,)
    assert float(difference[radius + 1 :].max()) == 0
    assert float(difference[: radius + 1].min()) > 0  # not needlessly large either


def test_wrong_inputs_are_named():
    x, t, lq = inputs(1, 6, 6)
    with pytest.raises(ValueError, match="mask"):
        network()(x, t, lq, mask=torch.zeros(1, 1, 6, 6))
    with pytest.raises(ValueError, match="LR size"):
        network()(x, t, lq[..., :5])


def test_the_shipped_file_has_the_published_keys_and_loads_strictly():
    state = load_file(Path(__file__).resolve().parents[2] / "models" / "weights" / "embedded_one_step.safetensors")
    layers = ["head", "tail", *(f"body.{i}" for i in range(16))]
    keys = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")} | {f"slopes.{i}" for i in range(17)}
    keys |= {"embed_latent.weight", "film.weight", "film.bias", "sqrt_etas", "kappa", "residual_std", "one_step"}
    assert set(state) == keys
    identified = registry.identify(state)
    assert identified.config == CompactDenoiserConfig()
    registry.build(identified).load_state_dict(state, strict=True)
    assert not any(state[silent].any() for silent in ("embed_latent.weight", "film.weight", "film.bias"))
