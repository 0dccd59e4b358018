"""InvSR's training on small real networks: what learns, what stays, exact resume, gradients, and that it learns."""

import copy
from contextlib import nullcontext

import pytest
import torch
from adaptivesr.models.judges.latent_discriminator import LatentDiscriminatorConfig
from adaptivesr.models.judges.latent_lpips import LatentLPIPS
from adaptivesr.models.noise_predictor import NoisePredictorConfig
from adaptivesr.sampling.noise import generator_for
from adaptivesr.sampling.schedules import sigma_of, stable_diffusion_alphas
from adaptivesr.training.invsr import run as invsr
from adaptivesr.training.invsr.config import OWN, PAPER, PAPER_WITHOUT_LPIPS, SIZES, InvSRConfig, preset_settings
from adaptivesr.training.invsr.sizes import PREDICTORS
from adaptivesr.training.invsr.steps import one_step, predictor_losses, prepare
from adaptivesr.training.runs import resume_run, save_run, train
from torch import nn
from torch.nn import functional as F

TEXT = 6
PREDICTOR = NoisePredictorConfig((8, 16), (1, 1), 16, 16, out_channels=8, mid_attention=True, head_dim=8, groups=4)
DISCRIMINATOR = LatentDiscriminatorConfig(
    (8, 8), (1, 1), (0, 2), side_channels=4, text_channels=TEXT, text_heads=3, time_channels=8, groups=4
)


class Base:
    """A frozen network that predicts noise from its surroundings, time and text; latents are means of 2 x 2 pixels."""

    pixels_per_cell, device = 2, torch.device("cpu")

    def __init__(self):
        self.sigmas = torch.from_numpy(sigma_of(stable_diffusion_alphas())).float()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.conv, self.of_text = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(TEXT, 4)
        self.networks = nn.ModuleList([self.conv, self.of_text]).requires_grad_(False)

    def cast(self):
        return nullcontext()

    def encode(self, picture):
        cells = F.avg_pool2d(picture, 2) * 2 - 1
        return torch.cat([cells, cells.mean(1, keepdim=True)], 1)

    def decode(self, latent):
        return F.interpolate(latent[:, :3] / 2 + 0.5, scale_factor=2)

    def predict(self, z, t, text):
        return self.conv(z) + (self.of_text(text.mean(1)) + t[:, None] / 1000)[:, :, None, None]


class FourPictures:
    """The same four pictures at every step: low frequencies with detail, and their small versions, x1."""

    def __init__(self):
        generator = torch.Generator().manual_seed(11)
        coarse = F.interpolate(torch.rand(4, 3, 4, 4, generator=generator), size=16, mode="bicubic").clamp(0, 1)
        self.target = (coarse + 0.2 * (torch.rand(4, 3, 16, 16, generator=generator) - 0.5)).clamp(0, 1)
        self.small = F.interpolate(F.avg_pool2d(self.target, 4), scale_factor=4, mode="bilinear")

    def batch(self, generator, size):
        return self.target[:size], self.small[:size]


def lpips():
    """A metric of the published layout with narrow layers."""
    network = LatentLPIPS((4, 4, 8, 8, 8))
    generator = torch.Generator().manual_seed(2)
    invsr.initialise(network, generator)
    with torch.no_grad():
        for index in range(5):
            network.get_parameter(f"lin{index}.model.1.weight").abs_()
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def metric():
    return lpips()


def make_run(metric=None, **settings):
    chosen = {"batch": 4, "lr": 1e-3, "warmup": 0, "lpips_weight": 2.0 if metric else 0.0, "adversarial_after": 1}
    config = InvSRConfig(**{**chosen, **settings})
    generator = torch.Generator().manual_seed(5)
    predictor = invsr.fresh_predictor(PREDICTOR, generator)
    text = torch.randn(1, 5, TEXT, generator=generator)
    discriminator = invsr.fresh_discriminator(DISCRIMINATOR, generator) if config.adversarial_weight else None
    state = invsr.invsr_state(config, predictor, discriminator)
    return invsr.InvSRRun(state, config, Base(), FourPictures(), text, metric)


def tensors(run):
    values = {f"model.{name}": value for name, value in run.state.model.state_dict().items()}
    values |= {f"ema.{name}": value for name, value in run.state.ema.values.items()}
    for number, optimizer in enumerate(run.state.optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            values |= {f"{number}.{index}.{name}": value for name, value in moments.items()}
    return {name: value.detach().clone() for name, value in values.items()}


def differing(a, b):
    assert set(a) == set(b)
    return {name for name in a if not torch.equal(a[name], b[name])}


@pytest.mark.slow
def test_two_steps_and_two_more_equal_four_bit_for_bit(tmp_path, metric):
    whole = make_run(metric)
    train(whole, 4)
    half = make_run(metric)
    train(half, 2)
    save_run(half, tmp_path / "run.safetensors")
    rest = make_run(metric)
    resume_run(rest, tmp_path / "run.safetensors")
    train(rest, 4)
    assert differing(tensors(whole), tensors(rest)) == set()
    assert whole.log.rows == rest.log.rows


def test_other_settings_do_not_go_on_from_a_state(tmp_path):
    run = make_run()
    train(run, 1)
    save_run(run, tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match="another recipe"):
        resume_run(make_run(taus=(200,)), tmp_path / "run.safetensors")


def test_both_networks_learn_wholly_and_nothing_frozen_moves(metric):
    run = make_run(metric)
    frozen = copy.deepcopy([run.base.networks.state_dict(), metric.state_dict()])
    before = tensors(run)
    train(run, 2)
    after = tensors(run)
    silent = {name for name in before if name.startswith("model.") and torch.equal(before[name], after[name])}
    assert silent == set()
    for old, module in zip(frozen, (run.base.networks, metric)):
        assert all(torch.equal(old[name], value) for name, value in module.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())


def test_the_verdict_reaches_the_predictor_after_its_delay_only():
    run, without = make_run(adversarial_after=2), make_run(adversarial_weight=0.0)
    for _ in range(2):
        train(run, run.state.step + 1)
        train(without, without.state.step + 1)
        assert all(torch.equal(p, q) for p, q in zip(run.predictor.parameters(), without.predictor.parameters()))
    train(run, 3)
    train(without, 3)
    assert not torch.equal(run.predictor.encoder.conv_out.weight, without.predictor.encoder.conv_out.weight)
    assert [set(row) for _, row in run.log.rows] == [
        {"mse", "discriminator"}, {"mse", "discriminator"}, {"mse", "adversarial", "discriminator"},
    ]  # fmt: skip


def test_the_discriminator_gets_no_gradient_from_what_the_predictor_learns():
    """Its step must be the one of its own loss: with a rate of almost 0 for the predictor, weights of the verdict change nothing."""
    runs = [make_run(lr=1e-30, adversarial_weight=weight, adversarial_after=0) for weight in (0.1, 100.0)]
    for run in runs:
        train(run, 1)
    pairs = zip(*(run.discriminator.parameters() for run in runs))
    assert all(torch.equal(p, q) for p, q in pairs)


def test_parts_of_a_batch_give_the_gradients_of_the_whole(metric):
    whole, parts = make_run(metric), make_run(metric, microbatch=3)
    numbers = [run.train_step(generator_for(1)) for run in (whole, parts)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
    pairs = [[o.state_dict()["state"][0]["exp_avg"] for o in run.state.optimizers] for run in (whole, parts)]
    for p, q in zip(*pairs):
        assert torch.allclose(p, q, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_checkpointing_changes_no_bit(metric):
    plain, frugal = make_run(metric), make_run(metric)
    invsr.save_memory(frugal.state.model)
    for run in (plain, frugal):
        train(run, 2)
    assert differing(tensors(plain), tensors(frugal)) == set()


def test_gradients_are_finite_differences(metric):
    run = make_run(metric, adversarial_after=0)
    predictor, discriminator = run.predictor.double(), run.discriminator.double()
    metric64 = copy.deepcopy(metric).double()
    with torch.no_grad():
        for name, value in metric64.named_parameters():
            value.add_(1.0 if name.endswith("bias") else 0.0)  # away from the kinks of its ReLUs
    run.base.networks.double()
    for network in (predictor.encoder, discriminator):  # sinusoids are float32 whatever the network is
        network.time_embedding.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    hr, lr = (side.double() for side in run.source.batch(None, 2))
    batch = prepare(run.config, run.base, hr, lr, run.text.double(), generator_for(4))

    def loss():
        _, z = one_step(run.base, predictor, predictor, batch)
        losses = predictor_losses(run.config, 0, z, batch, metric64, discriminator)
        return sum(getattr(run.config, f"{name}_weight") * value.mean() for name, value in losses.items())

    # The predicted distribution is float32 by design, so the steps are large.
    loss().backward()
    generator = torch.Generator().manual_seed(0)
    for name in ("encoder.conv_in.weight", "encoder.conv_out.bias", "encoder.time_embedding.linear_1.weight"):
        parameter = predictor.get_parameter(name)
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        slope = float((parameter.grad * direction).sum())
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * 1e-3)
                values.append(float(loss()))
                parameter.sub_(direction, alpha=sign * 1e-3)
        assert (values[0] - values[1]) / 2e-3 == pytest.approx(slope, rel=5e-3, abs=1e-4), name


def test_start_steps_are_uniform_over_the_setting_and_indices_are_one_less():
    config = InvSRConfig(batch=400, taus=(250, 100))
    hr = torch.rand(1, 3, 4, 4).expand(400, -1, -1, -1)
    batch = prepare(config, Base(), hr, hr, torch.zeros(1, 2, TEXT), generator_for(0))
    assert set(batch.t.tolist()) == {249, 99}
    assert 140 < int((batch.t == 99).sum()) < 260


@pytest.mark.slow
def test_four_pictures_are_learnt():
    """The frozen network leaves an error of its own; the predictor's start takes nearly all of it away."""
    run = make_run(lr=1e-2, adversarial_weight=0.0, taus=(200,))
    train(run, 30)
    losses = [value for _, value in run.log.series("mse")]
    assert sum(losses[-5:]) / 5 < losses[0] / 10


def test_samples_come_from_the_average_and_leave_the_run_as_it_is():
    run = make_run(taus=(250, 100))
    train(run, 2)
    before = tensors(run)
    hr, lr = run.source.batch(None, 2)
    made = invsr.sample_starts(run, hr, lr, generator_for(0))
    assert list(made) == ["from 250", "from 100"] and made["from 100"].shape == hr.shape
    assert differing(before, tensors(run)) == set()
    with torch.no_grad():
        for value in run.state.ema.values.values():
            value.zero_()
    assert not torch.equal(invsr.sample_starts(run, hr, lr, generator_for(0))["from 100"], made["from 100"])


def test_presets_are_the_papers_whatever_else_is_set():
    own = InvSRConfig(batch=2, lr=1.0, lpips_weight=0.5, taus=(7,), microbatch=1, seed=3)
    paper = preset_settings(PAPER, own)
    assert paper == InvSRConfig(microbatch=1, seed=3)
    assert (paper.batch, paper.lr, paper.warmup, paper.ema_decay, paper.taus) == (
        64, 5e-5, 2000, 0.999, (250, 200, 150, 100),
    )  # fmt: skip
    assert (paper.mse_weight, paper.lpips_weight, paper.adversarial_weight, paper.adversarial_after) == (
        1.0,
        2.0,
        0.1,
        10_000,
    )
    assert preset_settings(PAPER_WITHOUT_LPIPS, own) == InvSRConfig(microbatch=1, seed=3, lpips_weight=0.0)
    assert preset_settings(OWN, own) is own
    with pytest.raises(ValueError, match="preset"):
        preset_settings("other", own)


@pytest.mark.parametrize(
    "settings",
    [{"taus": ()}, {"taus": (0,)}, {"taus": (9, 9)}, {"batch": 0}, {"microbatch": -1}, {"lr": 0.0}, {"mse_weight": -1.0},
     {"mse_weight": 0.0, "lpips_weight": 0.0}],
)  # fmt: skip
def test_settings_that_no_run_can_have_are_refused(settings):
    with pytest.raises(ValueError, match=r"Got .*: expected"):
        InvSRConfig(**settings)


def test_a_widget_offers_every_size_of_the_predictor():
    assert tuple(PREDICTORS) == SIZES
