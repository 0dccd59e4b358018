"""TASR's training on small real networks: what learns, what stays, exact resume, and that it learns."""

import copy

import pytest
import torch
from adaptivesr.models.layers import timestep_embedding
from adaptivesr.models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from adaptivesr.sampling.noise import generator_for
from adaptivesr.training.loss_log import LossLog
from adaptivesr.training.runs import resume_run, save_run, train
from adaptivesr.training.tasr import run as tasr
from adaptivesr.training.tasr.config import TasrConfig
from adaptivesr.training.tasr.init import controlnet_from_unet
from adaptivesr.training.tasr.rewards import gradient_energy_match
from adaptivesr.training.tasr.steps import PromptedBatch, TasrDraw, draw, step_loss
from torch import nn
from torch.nn import functional as F

WIDTH, EMB, TEXT = 32, 48, 6


class Encoder(nn.Module):
    """Two levels and a middle layer of a UNet, with time and text."""

    def __init__(self, channels):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(16, EMB), nn.SiLU(), nn.Linear(EMB, EMB))
        self.first = nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.of_time, self.of_text = nn.Linear(EMB, WIDTH), nn.Linear(TEXT, WIDTH)

    def forward(self, x, t, text):
        emb = self.time_embed(timestep_embedding(t, 16))
        high = F.silu(self.first(x) + (self.of_time(emb) + self.of_text(text.mean(1)))[:, :, None, None])
        low = F.silu(self.down(high))
        return emb, [high, low, F.silu(self.middle(low))]


class Control(Encoder):
    def __init__(self):
        super().__init__(8)
        self.zero_convs = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(3))

    def forward(self, x, t, text):
        return [conv(h) for conv, h in zip(self.zero_convs, super().forward(x, t, text)[1])]


class UNet(Encoder):
    def __init__(self):
        super().__init__(4)
        self.up_low, self.up_high = (nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1) for _ in range(2))
        self.out = nn.Conv2d(WIDTH, 4, 3, padding=1)


class Base:
    """A frozen UNet on latents that are the pixels and their mean."""

    pixels_per_cell, latent_channels, device = 1, 4, torch.device("cpu")

    def __init__(self):
        torch.manual_seed(3)
        self.unet = UNet().requires_grad_(False)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0).float()

    def encode(self, picture):
        return torch.cat([picture, picture.mean(1, keepdim=True)], 1) * 2 - 1

    def decode(self, latent):
        return latent[:, :3] / 2 + 0.5

    def predict(self, controlnet, adapters, z_t, z_lr, t, text):
        residuals = controlnet(torch.cat([z_t, z_lr], 1), t, text)
        emb, (high, low, h) = self.unet.forward(z_t, t, text)
        alphas = []

        def gated(site, h, skip, residual):
            alphas.append(torch.ones(()) if adapters is None else adapters.forward_site(site, h, skip, residual, emb))
            return (h if skip is None else skip) + alphas[-1] * residual

        h = gated(0, h, None, residuals[2])
        h = F.silu(self.unet.up_low(torch.cat([h, gated(1, h, low, residuals[1])], 1)))
        h = F.interpolate(h, scale_factor=2)
        h = F.silu(self.unet.up_high(torch.cat([h, gated(2, h, high, residuals[0])], 1)))
        return self.unet.out(h), alphas


class FourPictures:
    """The same four pictures at every step: low frequencies with detail, and their blurred versions."""

    def __init__(self):
        generator = torch.Generator().manual_seed(11)
        coarse = F.interpolate(torch.rand(4, 3, 4, 4, generator=generator), size=16, mode="bicubic").clamp(0, 1)
        self.target = (coarse + 0.2 * (torch.rand(4, 3, 16, 16, generator=generator) - 0.5)).clamp(0, 1)
        self.condition = F.interpolate(F.avg_pool2d(self.target, 4), scale_factor=4, mode="bilinear")
        self.text = torch.randn(4, 5, TEXT, generator=generator)

    def batch(self, generator, size):
        return PromptedBatch(self.target[:size], self.condition[:size], self.text[:size], torch.zeros(1, 5, TEXT))


def control(seed=5):
    torch.manual_seed(seed)
    return Control()


def adapters(seed=7, *, neutral=True):
    config = TimeAwareAdaptersConfig.for_channels("lite", WIDTH, [(WIDTH, WIDTH)] * 2, emb_channels=EMB, width=32)
    network = TimeAwareAdapters(config)
    network.reset_parameters(torch.Generator().manual_seed(seed))
    if not neutral:
        for index in range(3):
            nn.init.normal_(network.site(index).conv2.weight, 0, 0.05, generator=torch.Generator().manual_seed(index))
    return network


def make_run(stage=2, **settings):
    config = TasrConfig(**{"stage": stage, "batch": 4, "lr": 1e-3, "adapter_every": 2, "decode_cells": 8, **settings})
    state = tasr.tasr_state(config, control(), adapters(neutral=False) if config.has_adapters else None)
    return tasr.TasrRun(state, config, Base(), FourPictures(), gradient_energy_match)


def parameters(run):
    return {name: value.detach().clone() for name, value in run.state.model.named_parameters()}


def changed(before, after):
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_each_turn_changes_its_own_network_wholly_and_nothing_else():
    run = make_run()
    frozen = copy.deepcopy(run.base.unet.state_dict())
    for expected in ("adapters", "controlnet", "adapters"):
        before = parameters(run)
        train(run, run.state.step + 1)
        after = parameters(run)
        assert changed(before, after) == {expected}
        own = [name for name in before if name.startswith(expected)]
        assert all(not torch.equal(before[name], after[name]) for name in own)
    assert all(torch.equal(value, frozen[name]) for name, value in run.base.unet.state_dict().items())
    assert all(parameter.grad is None for parameter in run.base.unet.parameters())


def test_stage_one_trains_the_controlnet_alone():
    run = make_run(stage=1)
    assert run.adapters is None and len(run.state.optimizers) == 1
    before = parameters(run)
    train(run, 2)
    assert changed(before, parameters(run)) == {"controlnet"}
    assert run.log.names == ["denoise"]
    with pytest.raises(ValueError, match="stage II only"):
        tasr.tasr_state(TasrConfig(stage=1), control(), adapters())


def gradients(run, step, t):
    """Gradients of a step with given timesteps."""
    drawn = draw(run.config, step, (4, 4, 16, 16), 1000, generator_for(1))
    drawn = TasrDraw(torch.tensor(t), drawn.eps, drawn.keep_prompt, drawn.crop)
    tasr.turn(run, run.config.trains_adapters(step))
    run.state.model.zero_grad()
    pictures = run.source.batch(generator_for(0), 4)
    loss, numbers = step_loss(run.config, step, run.base, run.controlnet, run.adapters, pictures, drawn, run.reward)
    loss.backward()
    return numbers, {n: p.grad.clone() for n, p in run.state.model.named_parameters() if p.grad is not None}


def test_the_parts_of_the_loss_follow_turn_and_timestep():
    run = make_run(l1_weight=1.0, reward_weight=1.0)
    assert set(gradients(run, 0, [10, 50, 100, 200])[0]) == {"denoise", "reward_loss", "alpha"}
    assert set(gradients(run, 1, [10, 50, 100, 799])[0]) == {"denoise", "l1"}
    assert set(gradients(run, 1, [0, 800, 900, 999])[0]) == {"denoise"}


def test_l1_moves_the_controlnet_only_and_the_reward_the_adapters_only():
    weights = {"l1_weight": 1.0, "reward_weight": 1.0}
    for step, part in ((0, "adapters"), (1, "controlnet")):
        with_it = gradients(make_run(**weights), step, [10, 50, 100, 150])[1]
        without = gradients(make_run(l1_weight=0.0, reward_weight=0.0), step, [10, 50, 100, 150])[1]
        assert {name.split(".")[0] for name in with_it} == {part} == {name.split(".")[0] for name in without}
        assert all(not torch.equal(with_it[name], without[name]) for name in with_it)


def test_without_adapters_the_reward_moves_the_controlnet_at_its_timesteps():
    run = make_run(reward_moves="ControlNet, without adapters", l1_weight=1.0, reward_weight=1.0)
    assert run.adapters is None and len(run.state.optimizers) == 1
    before = parameters(run)
    train(run, 2)
    assert changed(before, parameters(run)) == {"controlnet"}
    assert set(gradients(run, 0, [10, 300, 900, 999])[0]) == {"denoise", "l1", "reward_loss"}
    assert set(gradients(run, 0, [300, 300, 900, 999])[0]) == {"denoise", "l1"}
    assert set(gradients(run, 0, [900, 900, 900, 999])[0]) == {"denoise"}
    with_it = gradients(run, 0, [10, 300, 900, 999])[1]
    run.reward = None
    without = gradients(run, 0, [10, 300, 900, 999])[1]
    heard = [name for name in with_it if "of_text" not in name]  # the sample with the reward has no prompt
    assert all(not torch.equal(with_it[name], without[name]) for name in heard)


def test_the_inverse_order_has_the_reward_at_noise():
    run = make_run(loss_schedule="inverse", l1_weight=1.0, reward_weight=1.0)
    assert set(gradients(run, 0, [800, 850, 900, 999])[0]) == {"denoise", "reward_loss", "alpha"}
    assert set(gradients(run, 1, [0, 100, 199, 999])[0]) == {"denoise"}
    assert set(gradients(run, 1, [0, 100, 200, 999])[0]) == {"denoise", "l1"}


def test_gates_that_do_not_see_the_time_learn_and_never_follow_it():
    run = make_run(sees_time=False, weight_decay=0.1)
    before = parameters(run)
    train(run, 3)
    after, site = parameters(run), run.adapters.site(1)
    assert changed(before, after) == {"adapters", "controlnet"}
    assert not torch.equal(before["adapters.1.0.conv1.weight"], after["adapters.1.0.conv1.weight"])
    assert site.emb.weight.abs().sum() == 0
    maps = [torch.randn(1, WIDTH, 8, 8) for _ in range(3)]
    early, late = (run.adapters.forward_site(1, *maps, torch.randn(1, EMB)) for _ in range(2))
    assert torch.equal(early, late)
    seeing = make_run().adapters
    assert not torch.equal(*(seeing.forward_site(1, *maps, torch.randn(1, EMB)) for _ in range(2)))


def test_gradients_equal_those_of_one_graph_with_both_networks_open():
    """Closing the other network off saves work and changes nothing."""
    run = make_run()
    for step in (0, 1):
        _, closed = gradients(run, step, [10, 50, 100, 150])
        turn, tasr.turn = tasr.turn, lambda run, _: run.state.model.requires_grad_(True)
        try:
            _, opened = gradients(run, step, [10, 50, 100, 150])
        finally:
            tasr.turn = turn
        assert set(opened) > set(closed)
        for name, value in closed.items():
            torch.testing.assert_close(opened[name], value, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("stage", [1, 2])
def test_two_steps_and_two_more_equal_four_bit_for_bit(tmp_path, stage):
    whole = make_run(stage)
    train(whole, 4)
    first = make_run(stage)
    train(first, 2)
    save_run(first, tmp_path / "run.safetensors")
    train(first, 3)  # goes on after the save, as an interrupted run would
    second = make_run(stage)
    resume_run(second, tmp_path / "run.safetensors")
    assert second.state.step == 2
    train(second, 4)
    left, right = parameters(whole), parameters(second)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert whole.log.rows == second.log.rows
    for a, b in zip(whole.state.optimizers, second.state.optimizers):
        for index, values in a.state_dict()["state"].items():
            assert all(torch.equal(value, b.state_dict()["state"][index][name]) for name, value in values.items())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    run = make_run()
    save_run(run, tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match="another recipe"):
        resume_run(make_run(lr=2e-3), tmp_path / "run.safetensors")
    other = make_run()
    other.about = "another ControlNet"
    with pytest.raises(ValueError, match="another recipe"):
        resume_run(other, tmp_path / "run.safetensors")


def all_losses(run):
    """Every part of the loss at fixed noise and timesteps, without a step."""
    times = {0: [10, 60, 120, 190], 1: [50, 250, 450, 750]}
    found = {}
    for step, t in times.items():
        numbers, _ = gradients(run, step, t)
        found |= {f"{name} {step}": value for name, value in numbers.items()}
    return found


@pytest.mark.slow
def test_it_overfits_a_batch_of_four_with_all_losses_falling():
    run = make_run(l1_weight=0.5, reward_weight=0.5, lr=3e-3, prompt_dropping=0.0, decode_cells=0)
    before = all_losses(run)
    train(run, 120)
    after = all_losses(run)
    for name in ("denoise 0", "reward_loss 0", "denoise 1", "l1 1"):
        assert after[name] < 0.9 * before[name], (name, before[name], after[name])


def test_a_loss_that_is_not_finite_stops_before_the_step():
    run = make_run()
    with torch.no_grad():
        run.controlnet.first.weight.fill_(float("nan"))
    before = parameters(run)["adapters.0.0.proj.weight"]
    with pytest.raises(ValueError, match="loss of step 1 is not finite"):
        train(run, 1)
    assert torch.equal(parameters(run)["adapters.0.0.proj.weight"], before) and run.state.step == 0


def test_a_fresh_controlnet_is_the_unet_and_silent():
    unet, network = UNet().state_dict(), Control()
    shapes = {
        key.replace("first.weight", "input_blocks.0.0.weight"): v.shape for key, v in network.state_dict().items()
    }
    unet["input_blocks.0.0.weight"] = unet.pop("first.weight")
    made = controlnet_from_unet(unet, shapes)
    assert set(made) == set(shapes)
    assert torch.equal(made["input_blocks.0.0.weight"][:, :4], unet["input_blocks.0.0.weight"])
    assert made["input_blocks.0.0.weight"][:, 4:].abs().sum() == 0
    assert all(value.abs().sum() == 0 for key, value in made.items() if key.startswith("zero_convs"))
    assert torch.equal(made["middle.weight"], unet["middle.weight"])
    with pytest.raises(ValueError, match=r"down\.weight.*cannot start"):
        controlnet_from_unet({**unet, "down.weight": torch.zeros(1)}, shapes)


def test_the_loss_picture_and_its_table(tmp_path):
    log = LossLog()
    for step in range(1, 30):
        log.add(step, {"denoise": 1 / step, **({"reward": 0.5} if step % 5 == 0 else {})})
    picture = log.picture()
    assert picture.shape[:2] == (1, 3) and picture.min() >= 0 and picture.max() <= 1
    assert LossLog().picture().shape[1] == 3
    log.save(tmp_path / "losses.csv")
    again = LossLog()
    again.load(tmp_path / "losses.csv", up_to=10)
    assert again.rows == log.rows[:10]
