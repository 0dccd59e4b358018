"""Trajectories, labels and training of the gain regressor on small real networks."""

from dataclasses import replace

import pytest
import torch
from adaptivesr.imaging.metrics.gain_measures import rgb_measures
from adaptivesr.models.gain_regressor import Mmle, MmleConfig, latent_statistics
from adaptivesr.sampling.adaptive.gain import PICTURE_METRICS, GainMetric, chosen
from adaptivesr.tools.small_models.gain_base import SmallBase, SmoothPictures
from adaptivesr.training.gains import mmle
from adaptivesr.training.gains.config import MmleTrainConfig
from adaptivesr.training.gains.mmle_labels import Labels, normalised, typical_rate, with_ranges
from adaptivesr.training.gains.mmle_scores import correlation, held_out_agreement
from adaptivesr.training.gains.sizes import regressor_config
from adaptivesr.training.gains.trajectories import SHARD, Caching, Trajectories, build
from adaptivesr.training.optim import learning_rate
from adaptivesr.training.runs import resume_run, save_run, train

NAMES = ["psnr", "nlpd", "sharpness"]
MEASURES = rgb_measures()
SMALL = MmleConfig(3, (16, 16, 16, 16, 16, 16, 16), time_channels=8, hidden=16, metrics=3)


def cached(folder, count=2 * SHARD, base=None, after=None, samplers=("ddpm", "euler"), **about):
    caching = Caching(count, samplers, 5, {"base": "small", **about})
    return build(folder, caching, base or SmallBase(), SmoothPictures(), MEASURES, after)


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory):
    return cached(tmp_path_factory.mktemp("cache"))


def make_run(trajectories, **settings):
    config = MmleTrainConfig(**{"batch": 8, "lr": 2e-3, "schedule": 0, "held_out": 0.25, **settings})
    metrics = with_ranges(chosen(PICTURE_METRICS, NAMES), trajectories, floor=config.floor)
    return mmle.new_mmle_run(config, Mmle(SMALL), trajectories, metrics, SmallBase.timesteps, torch.device("cpu"))


def parameters(run):
    return {name: value.detach().clone() for name, value in run.network.named_parameters()}


def test_trajectories_are_the_chain_and_are_measured(trajectories):
    base = SmallBase()
    generator = mmle.generator_for(5, 0)
    _, lr = SmoothPictures().batch(generator, SHARD)
    seen = base.see(lr)
    x = base.start(seen, torch.randn(seen.reference.shape, generator=generator))
    first = base.predict(x, base.sigmas[:1].expand(SHARD), seen)
    assert torch.allclose(trajectories.latents(range(SHARD), [0] * SHARD), first, atol=2e-3)  # stored in half precision
    assert torch.allclose(trajectories.references([3]), seen.reference[3:4], atol=2e-3)
    raw = MEASURES["psnr"](base.decode(first).clamp(0, 1), base.decode(seen.reference).clamp(0, 1))
    assert torch.allclose(trajectories.scores[:SHARD, 0, 0], raw, rtol=1e-4)
    assert trajectories.scores.shape == (2 * SHARD, 6, 3) and torch.isfinite(trajectories.scores).all()


def test_an_interrupted_cache_is_continued_and_other_settings_have_their_own(tmp_path, trajectories):
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, after=stop)
    base = SmallBase()
    whole = cached(tmp_path, base=base)
    assert base.calls == 6  # one shard of six calls was missing
    assert torch.equal(whole.scores, trajectories.scores)
    base = SmallBase()
    assert len(cached(tmp_path, count=3 * SHARD, base=base)) == 3 * SHARD and base.calls == 6
    cached(tmp_path, base=base, metrics="others")
    assert base.calls == 6 + 12


def test_a_broken_base_is_named(tmp_path):
    base = SmallBase()
    base.network.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite: expected finite ones"):
        cached(tmp_path, base=base)
    assert not list(tmp_path.rglob("*.safetensors"))


def drawn(scores, contrast):
    return Trajectories([], ("psnr", "sharpness"), scores, contrast)


def test_the_floor_cuts_what_flat_regions_go_through():
    metrics = (GainMetric("psnr", 0, 1, weight=1.0), GainMetric("sharpness", 0, 1, full_reference=False, weight=1.0))
    fall = torch.linspace(0, 1, 11)
    flat = torch.stack([45 - 10 * fall, 0.01 + 0.02 * fall], 1).expand(5, -1, -1)
    texture = torch.stack([32 - 8 * fall, 0.02 + 0.05 * fall], 1).expand(15, -1, -1)
    found = drawn(torch.cat([flat, texture]), torch.cat([torch.full((5,), 0.01), torch.full((15,), 0.3)]))
    plain, cut = (with_ranges(metrics, found, floor=floor) for floor in (False, True))
    assert (plain[0].low, plain[0].high) == (24, 45) and plain[1].low == pytest.approx(0.01)
    assert (cut[0].low, cut[0].high) == (24, 35) and (cut[1].low, cut[1].high) == pytest.approx((0.03, 0.07))
    moved = normalised(found.scores, cut)
    assert (moved[:5].diff(dim=1) == 0).all()  # nothing is gained in flat regions
    assert (moved[5:, :, 0].diff(dim=1) < 0).all()


def test_a_floor_that_would_leave_nothing_is_not_made():
    metrics = (GainMetric("psnr", 0, 1, weight=1.0),)
    scores = torch.linspace(40, 20, 11)[None, :, None].expand(8, -1, -1)  # flat regions travel as far as all others
    (found,) = with_ranges(metrics, Trajectories([], ("psnr",), scores, torch.arange(8.0)), floor=True)
    assert (found.low, found.high) == (20, 40)
    with pytest.raises(ValueError, match="on all trajectories: expected values that differ"):
        with_ranges(metrics, Trajectories([], ("psnr",), torch.ones(8, 11, 1), torch.arange(8.0)), floor=False)


def test_labels_are_the_papers_gains_and_quality_counts_late(trajectories):
    metrics = with_ranges(chosen(PICTURE_METRICS, NAMES), trajectories, floor=False)
    labels = Labels.of(trajectories, metrics, SmallBase.timesteps, 500.0)
    row, before, now = torch.tensor([4, 4]), torch.tensor([1, 3]), torch.tensor([3, 5])
    gains, defined = labels.gains(row, before, now)
    share = normalised(trajectories.scores, metrics)[4]
    assert torch.allclose(gains[1], torch.tanh(share[5] - share[3]))
    assert defined.tolist() == [[True, True, False], [True, True, True]] and gains[0, 2] == 0
    spread = labels.deviations(torch.arange(len(trajectories)))
    every, known = labels.gains(*labels.all_pairs(torch.arange(len(trajectories))))
    assert torch.allclose(spread[0], every[:, 0].std(unbiased=False)) and known[:, 2].sum() < len(known)
    assert typical_rate(labels, metrics, torch.arange(8)) > 0


def test_the_regressor_alone_learns_and_wholly(trajectories):
    run = make_run(trajectories)
    before = parameters(run)
    train(run, 1)
    after = parameters(run)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in run.network.parameters())
    assert set(run.log.names) == {"loss", *NAMES}


def test_quality_gains_that_are_not_defined_have_no_gradient(trajectories):
    run = make_run(trajectories, t_half=0.0)
    last = run.network.fc2.weight.detach().clone()
    train(run, 3)
    assert torch.equal(run.network.fc2.weight[2], last[2]) and not torch.equal(run.network.fc2.weight[0], last[0])


@pytest.mark.slow
def test_few_pairs_are_learnt_by_heart(trajectories):
    run = make_run(trajectories, seed=1)
    pairs = mmle.draw_pairs(run, mmle.generator_for(9))
    mmle.draw_pairs, kept = lambda *_: pairs, mmle.draw_pairs
    try:
        train(run, 100)
    finally:
        mmle.draw_pairs = kept
    losses = [value for _, value in run.log.series("loss")]
    assert losses[-1] < 0.2 * losses[0]


def test_two_and_two_steps_are_four(trajectories, tmp_path):
    whole, first, second = (make_run(trajectories, schedule=10) for _ in range(3))
    train(whole, 4)
    train(first, 2)
    save_run(first, tmp_path / "run.safetensors")
    resume_run(second, tmp_path / "run.safetensors")
    train(second, 4)
    one, other = parameters(whole), parameters(second)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert second.log.rows == whole.log.rows
    with pytest.raises(ValueError, match="another recipe"):
        resume_run(make_run(trajectories, lr=1e-4), tmp_path / "run.safetensors")


@pytest.mark.slow
def test_training_helps_on_trajectories_that_were_kept_back(trajectories):
    run = make_run(trajectories, batch=16)
    before = held_out_agreement(run, 0.01)
    train(run, 100)
    after = held_out_agreement(run, 0.01)
    assert len(run.training) == 12 and after.pairs == 4 * (5 + 4 + 3 + 2)
    assert after.correlations["psnr"] > max(0.7, before.correlations["psnr"])
    assert held_out_agreement(make_run(trajectories, held_out=0.0), 0.01) is None


def test_correlation():
    a = torch.tensor([1.0, 2.0, 3.0])
    assert correlation(a, -2 * a) == pytest.approx(-1) and correlation(a[:2], a[:2]) != correlation(a, a)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="Got batch 0"):
        MmleTrainConfig(batch=0)
    with pytest.raises(ValueError, match=r"held_out 1\.0"):
        MmleTrainConfig(held_out=1.0)
    with pytest.raises(ValueError, match="expected paper or small"):
        regressor_config("huge", 4, 6)
    assert learning_rate(1.0, 0, cosine_steps=10) == 1.0 and learning_rate(1.0, 99, cosine_steps=10) == 0.01
    assert sum(p.numel() for p in Mmle(regressor_config("paper", 4, 6)).parameters()) == 2_185_382


def test_the_first_layer_begins_with_differences_and_rulers():
    network = Mmle(SMALL)
    mmle.initialise(network, torch.Generator().manual_seed(0))
    flat = torch.ones(1, 3, 8, 8) * torch.tensor([0.2, -0.5, 0.9]).view(1, 3, 1, 1)
    out = network.convs[0](torch.cat([flat, flat, flat], 1))[
        0, :, 1:-1, 1:-1
    ]  # nothing differs, and there is no detail
    assert out[0::2].abs().max() < 1e-5
    rulers = network.convs[0].bias.detach()[1::2]
    assert (rulers.diff() > 0).all() and rulers[0] == pytest.approx(0.01) and (network.convs[0].bias[0::2] == 0).all()


def test_statistics_tell_sizes_and_come_before_the_convolutions():
    config = regressor_config("small", 3, 2)
    network = Mmle(config)
    mmle.initialise(network, torch.Generator().manual_seed(0))
    read = MmleConfig.from_state_dict(network.state_dict())
    assert read == replace(config, silent=True) and config.statistics
    x0, last, o = torch.randn(3, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [1.0, 0.1]
    ).view(2, 1, 1, 1)
    told = latent_statistics(x0, last, o)
    assert told[0, 0] == pytest.approx(1.5 + 0.25 * float((x0[0] - o[0]).square().mean().log()), rel=1e-5)
    assert torch.allclose(told[0] - told[1], torch.full((12,), 0.5 * float(torch.tensor(10.0).log())), atol=0.1)
    assert torch.equal(latent_statistics(x0, last, o.clone())[:1], latent_statistics(x0[:1], last[:1], o[:1]))
    before = network(x0, last, o, torch.tensor([400.0, 400.0]), torch.tensor([500.0, 500.0]))
    quick = Mmle(read)
    quick.load_state_dict(network.state_dict())
    assert torch.allclose(
        quick(x0, last, o, torch.tensor([400.0, 400.0]), torch.tensor([500.0, 500.0])), before, atol=1e-6
    )
    torch.nn.init.normal_(network.convs[0].weight)
    assert torch.equal(network(x0, last, o, torch.tensor([400.0, 400.0]), torch.tensor([500.0, 500.0])), before)


def test_silent_convolutions_stay_silent(trajectories):
    config = MmleTrainConfig(batch=8, lr=2e-3, schedule=0, convolutions=False)
    metrics = with_ranges(chosen(PICTURE_METRICS, NAMES), trajectories, floor=True)
    parts = (trajectories, metrics, SmallBase.timesteps, torch.device("cpu"))
    run = mmle.new_mmle_run(config, Mmle(regressor_config("small", 3, 3)), *parts)
    before = parameters(run)
    train(run, 2)
    after = parameters(run)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith(("convs.", "norms."))}
    assert (run.network.fc1.weight[:, : run.network.config.features] == 0).all()
    with pytest.raises(ValueError, match="expected size 'small', or convolutions"):
        mmle.new_mmle_run(config, Mmle(SMALL), *parts)
