from dataclasses import replace

import pytest
import torch
from adaptivesr.models.pixel_autoencoder import PixelAutoencoder
from adaptivesr.models.pixel_denoiser import (
    PixelDenoiser,
    PixelDenoiserConfig,
    from_half_scale,
    precondition,
    to_half_scale,
    upsampled_latent,
)

SMALL = PixelDenoiserConfig(channels=16, blocks=2, refine_channels=8, feature_channels=4, time_channels=8, num_steps=5)


def network(seed: int = 0, *, awake: bool = True) -> PixelDenoiser:
    """A small network; awake ones have no zero kernels left."""
    generator = torch.Generator().manual_seed(seed)
    model = PixelDenoiser(SMALL)
    model.reset_parameters(generator)
    if awake:
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(False)


def inputs(batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 48, height, width, generator=generator)
    lq = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
    return x, torch.arange(batch) % SMALL.num_steps, lq


def test_the_autoencoder_is_exact_and_refuses_sizes_it_cannot_rearrange():
    codec, image = PixelAutoencoder(), torch.randn(2, 3, 12, 20)
    assert codec.encode(image).shape == (2, codec.latent_channels, 3, 5)
    assert torch.equal(codec.decode(codec.encode(image)), image)
    with pytest.raises(ValueError, match="multiples of 4"):
        codec.encode(torch.zeros(1, 3, 10, 12))


def test_half_scale_keeps_neighbouring_pixels_together():
    image = torch.arange(64.0).view(1, 1, 8, 8).repeat(1, 3, 1, 1)
    z = PixelAutoencoder().encode(image)
    assert torch.equal(torch.nn.functional.pixel_shuffle(to_half_scale(z), 2), image)
    assert torch.equal(from_half_scale(to_half_scale(z)), z)


@pytest.mark.parametrize("config", [SMALL, PixelDenoiserConfig(), replace(SMALL, blocks=3, num_steps=15)])
def test_the_config_is_read_back_from_the_state_dict(config: PixelDenoiserConfig):
    state = PixelDenoiser(config, device="meta").state_dict()
    assert PixelDenoiserConfig.from_state_dict(state) == config
    del state["refine_in.weight"]
    with pytest.raises(ValueError, match="refine_in"):
        PixelDenoiserConfig.from_state_dict(state)


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


def test_the_untrained_first_step_is_the_bicubic_enlargement():
    model = network(awake=False)
    _, _, lq = inputs(1, 8, 8)
    y = upsampled_latent(lq)
    last = torch.tensor([SMALL.num_steps - 1])
    level = model.level(last)
    c_skip = precondition(level, model.kappa, model.residual_std)[1]
    noise = model.kappa * level * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    scale = (model.kappa**2 * level**2 + 1).sqrt()
    torch.testing.assert_close(model((y + noise) / scale, last, lq), y + c_skip * noise)
    assert float(c_skip) < 0.01


def test_preconditioned_input_and_target_have_unit_variance():
    generator = torch.Generator().manual_seed(0)
    std, kappa = torch.tensor(0.12), torch.tensor(0.5)
    for sqrt_eta in (torch.tensor(0.04), torch.tensor(0.3), torch.tensor(0.99)):
        c_in, c_skip, c_out = precondition(sqrt_eta, kappa, std)
        r = std * torch.randn(100_000, generator=generator)
        shifted = (1 - sqrt_eta**2) * r + kappa * sqrt_eta * torch.randn(100_000, generator=generator)
        assert float((c_in * shifted).std()) == pytest.approx(1, abs=0.01)
        assert float(((r - c_skip * shifted) / c_out).std()) == pytest.approx(1, abs=0.01)


def test_fractional_times_lie_between_their_neighbours():
    model = network()
    low, middle, high = model.level(torch.tensor([1.0, 1.5, 2.0])).tolist()
    assert low < middle < high
    assert low == pytest.approx(float(model.sqrt_etas[1]))


def test_nothing_beyond_the_receptive_field_matters():
    model = network()
    radius = SMALL.receptive_field
    x, t, lq = inputs(1, 1, 2 * radius + 8)
    base = model(x, t, lq)
    changed_x, changed_lq = x.clone(), lq.clone()
    changed_x[..., 0], changed_lq[..., 0] = 5, 0.7
    difference = (model(changed_x, t, changed_lq) - base).abs().amax((0, 1, 2))  # (w,)
    assert float(difference[radius + 1 :].max()) == 0
    assert float(difference[: radius - 1].min()) > 0  # not needlessly large either


def test_casting_operations_run_half_precision_weights_on_float32_activations():
    class Casting:
        class Linear(torch.nn.Linear):
            def forward(self, input: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))

        class Conv2d(torch.nn.Conv2d):
            def forward(self, input: torch.Tensor) -> torch.Tensor:
                bias = None if self.bias is None else self.bias.to(input.dtype)
                return self._conv_forward(input, self.weight.to(input.dtype), bias)

    source = network()
    model = PixelDenoiser(SMALL, operations=Casting, device="meta", dtype=torch.float16)
    half = {name: value.half() for name, value in source.state_dict().items()}
    model.load_state_dict(half, assign=True)
    x, t, lq = inputs(2, 6, 6)
    out = model(x, t, lq)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, source(x, t, lq), rtol=0, atol=2e-2)


def test_wrong_inputs_are_named():
    x, t, lq = inputs(1, 6, 6)
    with pytest.raises(ValueError, match="mask"):
        network()(x, t, lq, mask=torch.zeros(1, 1, 6, 6))
    with pytest.raises(ValueError, match="LR size"):
        network()(x, t, lq[..., :5])
