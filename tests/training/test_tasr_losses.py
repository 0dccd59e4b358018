"""TASR's losses against the reference values and against what the paper says of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adaptivesr.sampling.noise import generator_for
from adaptivesr.training.tasr import rewards
from adaptivesr.training.tasr.config import TasrConfig
from adaptivesr.training.tasr.losses import (
    X0Formula,
    at,
    denoise_loss,
    masked_l1,
    neutral_pull,
    noised,
    predicted_x0,
    reward_loss,
)
from adaptivesr.training.tasr.steps import decoded_cells, draw
from safetensors.torch import load_file

GOLDEN = load_file(Path(__file__).resolve().parents[1] / "golden" / "tasr" / "losses.safetensors")


def alphas():
    return torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).float()


def test_the_reference_values():
    t, abar = GOLDEN["t"], at(alphas(), GOLDEN["t"])
    z_t = noised(GOLDEN["z_0"], GOLDEN["eps"], abar)
    torch.testing.assert_close(z_t, GOLDEN["z_t"], atol=1e-5, rtol=0)
    torch.testing.assert_close(denoise_loss(GOLDEN["eps_pred"], GOLDEN["eps"])[None], GOLDEN["denoise_mse"])
    for formula, key in ((X0Formula.CORRECT, "x0_correct"), (X0Formula.PUBLISHED_CODE, "x0_public_code_formula")):
        torch.testing.assert_close(
            predicted_x0(z_t, GOLDEN["eps_pred"], abar, formula), GOLDEN[key], atol=1e-5, rtol=1e-5
        )
    found = masked_l1(GOLDEN["pred01"], GOLDEN["gt"] / 2 + 0.5, TasrConfig().has_l1(t, 1000))
    torch.testing.assert_close(found[None], GOLDEN["l1_masked"], atol=1e-5, rtol=0)
    torch.testing.assert_close(reward_loss(GOLDEN["rewards"]), GOLDEN["clipiqa_loss_unweighted"])


def test_a_perfect_prediction_gives_the_clean_latent_and_the_published_codes_formula_does_not():
    t = torch.tensor([1, 200, 799])
    z_0, eps, abar = torch.randn(3, 4, 6, 6), torch.randn(3, 4, 6, 6), at(alphas(), t)
    z_t = noised(z_0, eps, abar)
    torch.testing.assert_close(predicted_x0(z_t, eps, abar), z_0, atol=1e-5, rtol=0)
    wrong = predicted_x0(z_t, eps, abar, X0Formula.PUBLISHED_CODE)
    # sqrt(abar) z_t - sqrt(1 - abar) eps = abar z_0 + (sqrt(abar) - 1) sqrt(1 - abar) eps
    torch.testing.assert_close(wrong, abar * z_0 + (abar.sqrt() - 1) * (1 - abar).sqrt() * eps, atol=1e-5, rtol=0)
    errors = (wrong - z_0).abs().mean((1, 2, 3))
    assert errors[0] < 0.01 < errors[1] < errors[2]


@pytest.mark.parametrize(("t", "counts"), [(0, False), (1, True), (799, True), (800, False), (999, False)])
def test_l1_counts_strictly_between_its_ends(t, counts):
    picture, target = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    found = masked_l1(picture, target, TasrConfig().has_l1(torch.tensor([t]), 1000))
    expected = (picture - target).abs().mean() if counts else torch.zeros(())
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_l1_is_the_mean_over_the_chosen_samples_only():
    picture, target = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    picture.requires_grad_()
    found = masked_l1(picture, target, torch.tensor([False, True, True]))
    torch.testing.assert_close(found, (picture[1:] - target[1:]).abs().mean(), atol=1e-6, rtol=0)
    found.backward()
    assert picture.grad[0].abs().sum() == 0 and picture.grad[1:].abs().min() > 0
    assert masked_l1(picture, target, torch.zeros(3, dtype=torch.bool)) == 0


def test_the_pull_is_zero_at_the_neutral_gate_only():
    assert neutral_pull([torch.ones(2, 1, 4, 4), torch.ones(2, 1, 8, 8)]) == 0
    assert neutral_pull([torch.full((2, 1, 4, 4), 1.5), torch.ones(2, 1, 8, 8)]) == pytest.approx(0.125)


def test_the_adapters_turns_and_their_timesteps():
    config = TasrConfig(batch=64, adapter_every=5)
    assert [config.trains_adapters(step) for step in range(7)] == [True, False, False, False, False, True, False]
    assert [TasrConfig(adapter_every=2).trains_adapters(step) for step in range(4)] == [True, False, True, False]
    assert not any(replace(config, stage=1).trains_adapters(step) for step in range(7))
    times = [draw(config, step, (64, 4, 8, 8), 1000, generator_for(0, step)).t for step in range(60)]
    own = torch.cat([t for step, t in enumerate(times) if config.trains_adapters(step)])
    others = torch.cat([t for step, t in enumerate(times) if not config.trains_adapters(step)])
    assert own.min() == 0 and own.max() == 200
    assert others.max() > 980 and others.min() < 20


@pytest.mark.parametrize(
    ("schedule", "reward", "l1"),
    [
        ("by timestep", (0, 200), (1, 799)),
        ("inverse", (799, 999), (200, 998)),
        ("everywhere", (0, 999), (0, 999)),
        ("reward only", (0, 200), None),
    ],
)
def test_the_schedules_of_table_4(schedule, reward, l1):
    config, t = TasrConfig(loss_schedule=schedule), torch.arange(1000)
    times = config.reward_times(1000)
    assert (times[0], times[-1]) == reward
    counted = t[config.has_l1(t, 1000)].tolist()
    assert counted == ([] if l1 is None else list(range(l1[0], l1[1] + 1)))
    drawn = draw(replace(config, batch=64), 0, (4096, 4, 8, 8), 1000, generator_for(0)).t
    assert reward[0] <= drawn.min() <= reward[0] + 5 and reward[1] - 5 <= drawn.max() <= reward[1]


def test_the_decoded_crop_lies_inside_and_prompts_drop_at_their_rate():
    config = TasrConfig(decode_cells=8, prompt_dropping=0.5)
    assert decoded_cells(config, (1, 4, 6, 20)) == (6, 8)
    assert decoded_cells(TasrConfig(decode_cells=0), (1, 4, 6, 20)) == (6, 20)
    draws = [draw(config, 1, (8, 4, 6, 20), 1000, generator_for(step)) for step in range(100)]
    assert {d.crop[0] for d in draws} == {0} and {d.crop[1] for d in draws} == set(range(13))
    kept = torch.cat([d.keep_prompt for d in draws]).float().mean()
    assert abs(float(kept) - 0.5) < 0.06  # three deviations of 800 draws


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"stage": 3}, "stage 3: expected 1"),
        ({"adapter_every": 0}, "at least 1"),
        ({"batch": 0}, "at least 1"),
        ({"reward_until": 1000}, "0 to 999"),
        ({"l1_below": 0}, "1 to 1000"),
        ({"loss_schedule": "mine"}, "'mine'.*inverse, everywhere"),
        ({"reward_moves": "nothing"}, "ControlNet, without adapters"),
        ({"x0_formula": "mine"}, "mine"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        TasrConfig(**settings)


# --- Rewards ----------------------------------------------------------------------------------------------------------


def test_our_reward_is_best_at_the_targets_sharpness_and_has_a_slope_there_from_both_sides():
    target = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    reward = rewards.make_reward(rewards.ENERGY, torch.device("cpu"))
    assert torch.equal(reward(target, target), torch.ones(2))
    for factor in (0.5, 2.0):
        picture = ((target - 0.5) * factor + 0.5).requires_grad_()
        value = reward(picture, target)
        assert value.shape == (2,) and float(value.detach().max()) < 0.5
        (slope,) = torch.autograd.grad(value.sum(), picture)
        towards = ((target - picture) * slope).sum()
        assert towards > 0
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert float(reward(noise, target).min()) > 0.7  # no measure of quality: other noise of that strength is as good


def test_clip_iqa_without_weights_is_a_sentence_that_offers_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(rewards.MissingRewardError, match=r"RN50\.pt.*gradient energy match \(ours, weight-free\)"):
        rewards.make_reward(rewards.CLIP_IQA, torch.device("cpu"))
    (tmp_path / "hub" / "clip").mkdir(parents=True)
    (tmp_path / "hub" / "clip" / "RN50.pt").write_bytes(b"something else")
    with pytest.raises(rewards.MissingRewardError, match="another checksum"):
        rewards.make_reward(rewards.CLIP_IQA, torch.device("cpu"))
    with pytest.raises(ValueError, match="'SSIM'"):
        rewards.make_reward("SSIM", torch.device("cpu"))


@pytest.mark.parametrize("name", ["MANIQA", "MUSIQ"])
def test_named_rewards_without_weights_or_with_damaged_ones_are_a_sentence(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = rewards.NAMED[name].file
    with pytest.raises(
        rewards.MissingRewardError, match=rf"{name} needs its weights {file}.*{name.lower()} is first used"
    ):
        rewards.make_reward(name, torch.device("cpu"))
    (tmp_path / "hub" / "pyiqa").mkdir(parents=True)
    (tmp_path / "hub" / "pyiqa" / file).write_bytes(b"something else")
    monkeypatch.setattr(rewards, "bare_network", lambda metric, options: torch.nn.Linear(1, 1))
    with pytest.raises(rewards.MissingRewardError, match="could not read"):
        rewards.make_reward(name, torch.device("cpu"))


class Brightness(torch.nn.Module):
    """In the place of a metric: its scale times the mean, of what it was given."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, picture):
        self.seen.append(tuple(picture.shape))
        return (self.scale * picture.mean((1, 2, 3)))[:, None]


@pytest.mark.parametrize(("name", "best"), [("MANIQA", 1.0), ("MUSIQ", 100.0)])
def test_named_rewards_are_one_at_the_metrics_best_and_see_pictures_of_its_size(tmp_path, monkeypatch, name, best):
    stand_in = Brightness()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(rewards, "bare_network", lambda metric, options: stand_in)
    (tmp_path / "hub" / "pyiqa").mkdir(parents=True)
    torch.save({"module.scale": torch.tensor(best)}, tmp_path / "hub" / "pyiqa" / rewards.NAMED[name].file)
    reward = rewards.make_reward(name, torch.device("cpu"))
    picture = torch.full((2, 3, 64, 96), 0.5, requires_grad=True)
    value = reward(picture, torch.zeros_like(picture))
    torch.testing.assert_close(value, torch.full((2,), 0.5))
    assert stand_in.seen == [(2, 3, 224, 336)] and not stand_in.scale.requires_grad
    value.sum().backward()
    assert picture.grad.min() > 0
    reward(torch.rand(1, 3, 256, 300), picture)
    assert stand_in.seen[-1] == (1, 3, 256, 300)
