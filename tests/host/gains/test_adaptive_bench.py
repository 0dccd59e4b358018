"""The benchmark's runs of embedded bases: work is counted exactly, and what is timed is what ran."""

from dataclasses import replace

import pytest
import torch

STEPS, REGIONS = 6, 4


@pytest.fixture(scope="module")
def runs(comfy):
    return comfy.module("tools.bench.parts.adaptive_runs")


@pytest.fixture(scope="module")
def base(runs):
    return runs.AdaptiveBase(runs.Setting())


@pytest.fixture(scope="module")
def pictures():
    """(LR image, truth): the left half flat, the right half noise, two by two regions of 128 pixels."""
    truth = torch.full((1, 3, 224, 224), 0.5)
    truth[..., 112:] = torch.rand(1, 3, 224, 112, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.avg_pool2d(truth, 4), truth


def test_every_step_is_counted_and_flat_regions_have_less_detail(runs, base, pictures):
    picture, found = base.run(*pictures, runs.Variant(steps=STEPS))
    assert picture.shape == pictures[1].shape
    assert found.calls == found.fixed_calls == STEPS * REGIONS and found.steps == (STEPS,) * REGIONS
    left, right = found.detail[0], found.detail[1]
    assert left < right and found.estimator_seconds == 0 < found.network_seconds < found.seconds
    _, again = base.run(*pictures, runs.Variant(steps=STEPS), picture)
    assert again.to_fixed > 60 and again.quality == found.quality


def test_a_large_tau_gives_the_steps_that_the_ladder_prescribes(runs, base, pictures):
    choice = runs.Variant("proxies", tau=1.0, steps=STEPS, limits=runs.GainLimits(prior=0.0))
    _, found = base.run(*pictures, choice)
    # levels 0, 1, 2 at the first speed, 4, and 5 by the jump cut at the end
    assert found.steps == (5,) * REGIONS and found.calls == 20 and found.fixed_calls == 24
    assert found.estimator_seconds > 0


def test_gains_with_every_step_change_nothing(runs, base, pictures):
    plain, _ = base.run(*pictures, runs.Variant(steps=3))
    watched, found = base.run(*pictures, runs.Variant("latent", steps=3, limits=runs.every_step()))
    assert torch.equal(plain, watched) and found.calls == found.fixed_calls


def test_the_prior_alone_spends_what_it_is_told_where_the_detail_is(runs, base, pictures):
    _, found = base.run(*pictures, runs.Variant(steps=12, prior_calls=6.0))
    assert abs(found.calls - 6 * REGIONS) <= 2 and found.estimator_seconds == 0
    assert found.steps[0] < found.steps[1] and found.steps[2] < found.steps[3]


def test_whole_frames_are_the_hosts_own_run_and_a_step_cache_leaves_calls_out(runs, base, pictures):
    picture, every = base.run(*pictures, runs.Variant(steps=STEPS, whole=True))
    assert picture.shape == pictures[1].shape and every.calls == every.fixed_calls == STEPS and every.steps == (STEPS,)
    for node in ("EasyCache", "LazyCache"):
        kept, idle = base.run(*pictures, runs.Variant(steps=STEPS, whole=True, cache=(node, 0.0)))
        assert idle.calls == STEPS and torch.equal(kept, picture), node
        other, cached = base.run(*pictures, runs.Variant(steps=12, whole=True, cache=(node, 3.0)))
        assert cached.calls < cached.fixed_calls == 12 and not torch.equal(other, picture), node


def test_multiplications_of_the_network_do_not_depend_on_the_estimator(runs, base, pictures):
    low, _ = pictures
    macs = base.macs(low, runs.Variant("latent"))
    assert macs["network"] == base.macs(low, runs.Variant())["network"] > 1e8
    assert 0 < macs["estimator"] < 0.05 * macs["network"]


def test_trained_parts_that_are_not_there_are_named(comfy, runs, base, pictures):
    bare = runs.AdaptiveBase(base.setting)
    bare.models = None
    for choice in (runs.Variant("regressor"), runs.Variant(pfj=1.0), runs.Variant(runs.REGRESSOR_METRICS)):
        with pytest.raises(
            comfy.module("tools.env.steps").StepError,
            match=r"no (mmle|pfj) for this base.*dev\.py train.*--gain-models",
        ):
            bare.run(*pictures, replace(choice, steps=3))


def test_the_base_with_stablesr_is_sampled_in_regions_and_gains_leave_calls_out(runs, pictures):
    guided = runs.AdaptiveBase(runs.Setting(), "stablesr")
    _, every = guided.run(*pictures, runs.Variant(steps=12))
    assert every.calls == every.fixed_calls == 12 * REGIONS and not guided.has("mmle")
    _, led = guided.run(*pictures, runs.Variant("latent", steps=12, limits=runs.GainLimits(prior=0.0)))
    assert led.calls < every.calls and led.estimator_seconds > 0


def test_gain_models_are_trained_beside_the_base_with_stablesr(comfy, runs, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    model, vae = comfy.module("tools.train.gain_recipe").guided_base()
    config = comfy.module("training.gains.config")
    options = config.GainOptions(2, name="tiny", crop=64, calls=4, trajectories=8, metrics="psnr, sharpness")
    images = torch.rand(2, 96, 96, 3, generator=torch.Generator().manual_seed(0))
    trained = comfy.module("host.training.gains").train_mmle(
        model, vae, None, ("", images), config.MmleTrainConfig(batch=2), options
    )
    file = tmp_path / trained.report["file"]
    guided = runs.AdaptiveBase(runs.Setting(), "stablesr", file)
    assert guided.has("mmle") and not guided.has("pfj")
    low = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    _, found = guided.run(low, torch.rand(1, 3, 64, 64), runs.Variant("regressor", steps=3))
    assert found.estimator_seconds > 0
