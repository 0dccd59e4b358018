"""StableSR's training on a tiny real denoiser: what learns, what stays, exact resume, gradients, and that it learns."""

import itertools

import pytest
import torch
from adaptivesr.models.layers import Factory, timestep_embedding
from adaptivesr.models.spade import SpadeShape, modulated_block
from adaptivesr.models.struct_encoder import EncoderBlock, StructEncoderConfig, TimedBlock
from adaptivesr.models.struct_parts import StructParts, StructPartsConfig
from adaptivesr.sampling.noise import generator_for
from adaptivesr.sampling.schedules import stable_diffusion_alphas
from adaptivesr.training.runs import resume_run, save_run, train
from adaptivesr.training.stablesr.config import PRESETS, SIZES, StableSRConfig, StableSROptions
from adaptivesr.training.stablesr.init import initialise, parts_config, start_near_base
from adaptivesr.training.stablesr.losses import guided_diffusion_loss, noised, velocity
from adaptivesr.training.stablesr.run import StableSRRun, stablesr_state
from adaptivesr.training.stablesr.samples import sampled, side_by_side
from torch import nn
from torch.nn import functional as F

BLOCK, WIDTH, TIME, SIDE = "input_blocks.1.0", 32, 64, 4


class UNet(nn.Module):
    """One residual block between two convolutions, with time."""

    def __init__(self):
        super().__init__()
        self.time = nn.Linear(16, TIME)
        self.first, self.last = nn.Conv2d(4, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, 4, 3, padding=1)
        self.block = TimedBlock(WIDTH, WIDTH, TIME, Factory(nn))

    def forward(self, x, t, modulation):
        emb = self.time(timestep_embedding(t, 16).to(x.dtype))
        return self.last(F.silu(modulated_block(self.block, self.first(x), emb, modulation)))


class Base:
    """A frozen denoiser on latents that are the pixels and their mean."""

    device, predicts_v = torch.device("cpu"), False

    def __init__(self, *, predicts_v=False):
        torch.manual_seed(3)
        self.unet, self.predicts_v = UNet().requires_grad_(False), predicts_v

    def encode(self, picture):
        return torch.cat([picture, picture.mean(1, keepdim=True)], 1) * 2 - 1

    def decode(self, latent):
        return latent[:, :3] / 2 + 0.5

    def predict(self, parts, x_t, t, z_lr):
        if parts is None:
            return self.unet(x_t, t, torch.nn.Identity())
        layer, maps = parts.modulations()[BLOCK], parts.encoder(z_lr, t)
        return self.unet(x_t, t, lambda h: layer(h, maps[0]))

    def branches(self, x_t, t):
        found = {}
        self.unet(x_t, t, lambda h: found.setdefault(BLOCK, h))
        return found


class FourPictures:
    """The same four pictures at every step, and blurred."""

    def __init__(self):
        generator = torch.Generator().manual_seed(11)
        self.target = F.interpolate(torch.rand(4, 3, 3, 3, generator=generator), size=SIDE, mode="bicubic").clamp(0, 1)
        self.low = F.avg_pool2d(self.target, 3, 1, 1)

    def batch(self, generator, size):
        return self.target[:size], self.low[:size]


def fresh(seed=5):
    encoder = StructEncoderConfig(4, WIDTH, 32, (EncoderBlock(WIDTH, attention=True),), WIDTH)
    parts = StructParts(StructPartsConfig(encoder, ((BLOCK, SpadeShape(WIDTH, 8, WIDTH)),)))
    initialise(parts, torch.Generator().manual_seed(seed))
    return parts


def noisy(base, count=4):
    hr = base.encode(FourPictures().batch(None, count)[0])
    t = torch.tensor([0, 300, 700, 999])[:count]
    return noised(hr, t, torch.randn(hr.shape, generator=torch.Generator().manual_seed(1))), t


def make_run(*, predicts_v=False, **settings):
    config = StableSRConfig(**{"lr": 1e-3, **settings})
    base, parts = Base(predicts_v=predicts_v), fresh()
    start_near_base(parts, base.branches(*noisy(base)))
    return StableSRRun(stablesr_state(config, parts), config, base, FourPictures())


def values(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_all_of_the_parts_learns_and_nothing_of_the_base():
    run = make_run()
    before, frozen = values(run.parts), values(run.base.unet)
    train(run, 3)  # what stands behind a silent layer moves once that layer has
    after = values(run.parts)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(value, frozen[name]) for name, value in run.base.unet.state_dict().items())
    assert all(parameter.grad is None for parameter in run.base.unet.parameters())


def test_the_start_near_the_base_is_nearer_than_fresh_norms_and_does_not_see_the_lr_picture():
    base, parts = Base(), fresh()
    with torch.no_grad():
        base.unet.block.out_layers[-1].weight.mul_(5)  # branches of a size that a norm of one does not give
    (x, t), lr = noisy(base), base.encode(FourPictures().low)
    with torch.no_grad():
        bare = base.predict(None, x, t, lr)
        far = (base.predict(parts, x, t, lr) - bare).square().mean()
        start_near_base(parts, base.branches(x, t))
        near = base.predict(parts, x, t, lr)
        assert torch.equal(near, base.predict(parts, x, t, -lr))
    assert (near - bare).square().mean() < 0.2 * far


def test_the_start_gives_back_a_branch_of_even_statistics_exactly():
    parts = fresh()
    h = torch.randn(1, WIDTH, 8, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1
    start_near_base(parts, {BLOCK: h})
    with torch.no_grad():
        again = parts.modulations()[BLOCK](h, torch.randn(1, WIDTH, 8, 8))
    torch.testing.assert_close(again, h, atol=1e-5, rtol=1e-5)


def test_a_fresh_encoder_passes_on_its_first_convolution():
    """All its branches are silent, so that its map is the skip of the last block over the first convolution."""
    encoder, latent = fresh().encoder, torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        low, high = (encoder(latent, torch.tensor([t, t]))[0] for t in (0, 999))
        assert torch.equal(low, high) and torch.equal(low, encoder.input_blocks[0][0](latent))


def test_two_steps_and_two_more_equal_four_bit_for_bit(tmp_path):
    whole, first, second = (make_run(accumulate=2, batch=2) for _ in range(3))
    train(whole, 4)
    train(first, 2)
    save_run(first, tmp_path / "run.safetensors")
    resume_run(second, tmp_path / "run.safetensors")
    assert second.state.step == 2
    train(second, 4)
    left, right = values(whole.parts), values(second.parts)
    assert all(torch.equal(left[name], right[name]) for name in left) and whole.log.rows == second.log.rows
    for index, moments in whole.state.optimizers[0].state_dict()["state"].items():
        other = second.state.optimizers[0].state_dict()["state"][index]
        assert all(torch.equal(value, other[name]) for name, value in moments.items())


@pytest.mark.slow
@pytest.mark.parametrize("predicts_v", [False, True])
def test_gradients_equal_differences(predicts_v):
    run = make_run(predicts_v=predicts_v)
    run.parts.double(), run.base.unet.double()
    with torch.no_grad():  # at the silent start most gradients are zero
        for index, parameter in enumerate(run.parts.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
            parameter.add_(0.05 * noise)
    run.source.target, run.source.low = run.source.target.double(), run.source.low.double()

    def loss():
        return run.loss(generator_for(9)).mean()

    loss().backward()
    wanted = {name: p for name, p in run.parts.named_parameters() if p.grad.abs().max() > 1e-6}
    assert len(wanted) > 20
    for name, parameter in list(wanted.items())[::4]:
        place = parameter.grad.abs().flatten().argmax()
        step, flat = 1e-4, parameter.data.view(-1)
        ends = []
        for sign in (1, -1):
            flat[place] += sign * step
            ends.append(float(loss().detach()))
            flat[place] -= sign * step
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float(parameter.grad.flatten()[place]), rel=1e-3, abs=1e-8), name


def test_accumulated_batches_make_the_mean_step():
    """Two batches of two: the gradient of the mean of all four."""
    run = make_run(accumulate=2, batch=2, lr=1e-3)
    generator = generator_for(run.config.seed, 0)
    losses = torch.cat([run.loss(generator) for _ in range(2)])
    losses.mean().backward()
    wanted = {name: p.grad.clone() for name, p in run.parts.named_parameters() if p.grad is not None}
    seen = {}
    run.state.optimizers[0].step = lambda: seen.update({n: p.grad.clone() for n, p in run.parts.named_parameters()})
    numbers = run.train_step(generator_for(run.config.seed, 0))
    assert numbers["denoise"] == pytest.approx(float(losses.detach().mean()), rel=1e-6) and run.state.images == 4
    for name, gradient in wanted.items():
        torch.testing.assert_close(seen[name], gradient, atol=1e-8, rtol=1e-4)


def test_errors_of_noise_may_count_as_those_of_the_v_that_goes_with_it():
    generator = torch.Generator().manual_seed(2)
    hr, noise, found = (torch.randn(3, 4, 6, 6, generator=generator) for _ in range(3))
    t = torch.tensor([10, 500, 999])
    x_t = noised(hr, t, noise)
    alphas = torch.from_numpy(stable_diffusion_alphas()).float()[t].view(-1, 1, 1, 1)
    clean = (x_t - (1 - alphas).sqrt() * found) / alphas.sqrt()  # what the predicted noise says of the picture
    expected = (velocity(clean, t, found) - velocity(hr, t, noise)).square().mean((1, 2, 3))
    loss = guided_diffusion_loss(lambda *_: found, hr, hr, t, noise, predicts_v=False, weighted_as_v=True)
    assert torch.allclose(loss, expected, rtol=1e-4)
    of_v = guided_diffusion_loss(lambda *_: found, hr, hr, t, noise, predicts_v=True, weighted_as_v=True)
    assert torch.allclose(of_v, (found - velocity(hr, t, noise)).square().mean((1, 2, 3))), "v as it is"


def test_parts_of_every_size_read_the_latents_of_their_base():
    for size, channels in itertools.product(SIZES, (4, 48)):
        config = parts_config({BLOCK: WIDTH}, 2, size, channels)
        assert config.encoder.in_channels == channels and config.encoder.levels == 2
        weights = StructParts(config).state_dict()
        assert StructPartsConfig.from_state_dict(weights) == config, "a file says all of it"


@pytest.mark.parametrize("predicts_v", [False, True])
def test_the_chain_of_a_perfect_network_ends_at_the_truth(predicts_v):
    truth = Base().encode(FourPictures().target)

    class Perfect(Base):
        def predict(self, parts, x_t, t, z_lr):
            zero = torch.zeros_like(truth)
            signal, deviation = noised(zero + 1, t, zero), noised(zero, t, zero + 1)
            eps = (x_t - signal * truth) / deviation
            return signal * eps - deviation * truth if self.predicts_v else eps

    base, generator = Perfect(predicts_v=predicts_v), torch.Generator().manual_seed(0)
    z = sampled(base, None, base.encode(FourPictures().low), 5, generator)
    torch.testing.assert_close(z, truth, atol=1e-3, rtol=0)
    row = side_by_side(base, None, (FourPictures().target, FourPictures().low), 3, generator)
    assert row.shape == (1, 3, SIDE, 3 * SIDE)
    torch.testing.assert_close(row[..., SIDE : 2 * SIDE], row[..., 2 * SIDE :], atol=2e-3, rtol=0)


def test_presets_name_fields_and_numbers_of_the_papers():
    fields = {**vars(StableSRConfig()), **vars(StableSROptions(1))}
    assert all(name in fields for preset in PRESETS.values() for name in preset)
    paper, large, ours = (PRESETS[name] for name in ("paper", "paper, 768", "adadiffsr base"))
    assert paper["batch"] * paper["accumulate"] == 192 and large["batch"] * large["accumulate"] == 96
    assert ours["weight_decay"] == 0 and ours["lr"] == paper["lr"] == 5e-5


def test_the_published_size_is_that_of_the_paper():
    blocks = {f"input_blocks.{i}.0": c for i, c in enumerate([320] * 5 + [640] * 5 + [1280] * 12)}
    with torch.device("meta"):
        parts = StructParts(parts_config(blocks, 4, "paper"))
    sizes = {
        key: sum(p.numel() for name, p in parts.named_parameters() if key in name) for key in ("structcond", "spade")
    }
    assert sizes == {"structcond": 52_494_080, "spade": 53_020_160}


@pytest.mark.parametrize("wrong", [{"accumulate": 0}, {"batch": 0}, {"weight_decay": 1.0}, {"start": "anywhere"}])
def test_settings_that_no_run_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        StableSRConfig(**wrong)
