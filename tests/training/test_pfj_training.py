"""Training of the injection network on small real networks."""

import pytest
import torch
from adaptivesr.models.feature_injection import Pfj, PfjConfig
from adaptivesr.models.gain_models import MetricInfo
from adaptivesr.models.gain_regressor import Mmle, MmleConfig
from adaptivesr.tools.small_models.gain_base import SmallBase, SmoothPictures
from adaptivesr.training.gains import mmle, pfj
from adaptivesr.training.gains.config import PfjTrainConfig
from adaptivesr.training.gains.sizes import injector_config
from adaptivesr.training.runs import resume_run, save_run, train

METRICS = (
    MetricInfo("psnr", 10, 35, False, True, 1.0),
    MetricInfo("sharpness", 0, 1, False, False, 1.0),
)


def make_run(**settings):
    config = PfjTrainConfig(**{"batch": 6, "lr": 2e-3, **settings})
    regressor = Mmle(MmleConfig(3, (16,) * 7, time_channels=8, hidden=16, metrics=2))
    mmle.initialise(regressor, torch.Generator().manual_seed(2))
    network = Pfj(PfjConfig(3, 16, 16, 1, 16, metrics=2))
    return pfj.new_pfj_run(config, SmallBase(), SmoothPictures(), regressor, METRICS, 500.0, network)


def parameters(network):
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def test_it_starts_as_the_identity():
    run = make_run()
    third = pfj.prepared(run, pfj.generator_for(1))
    with_it, without = (pfj.third_loss(run, third, injected=injected)[0] for injected in (True, False))
    assert torch.equal(with_it, without)


def test_only_the_injection_learns():
    run = make_run()
    frozen = [parameters(run.regressor), parameters(run.base.network)]
    start = parameters(run.network)
    train(run, 2)
    for network, before in zip((run.regressor, run.base.network), frozen):
        assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
        assert all(value.grad is None for value in network.parameters())
    changed = {name for name, value in run.network.named_parameters() if not torch.equal(value, start[name])}
    assert changed == set(start)  # from the second step on the gradient reaches everything


def test_the_third_call_follows_two_jumps_and_first_calls_have_no_gains():
    run = make_run(batch=64, first_share=0.5)
    generator = torch.Generator().manual_seed(4)
    first, place, jumps = pfj.drawn_places(run.config, len(run.base.timesteps), generator)
    assert 16 < first.sum() < 48
    assert jumps[0].min() == jumps[1].min() == 1 and jumps[0].max() == 2
    assert place.min() == 0 and (place + jumps[0] + jumps[1]).max() == len(run.base.timesteps) - 1
    third = pfj.prepared(run, pfj.generator_for(0))
    starts = third.sigma == run.base.sigmas[0]
    assert (third.gains[starts] == 0).all() and (third.gains[~starts, 0] != 0).all()
    assert (third.gains[third.sigma > 0.5, 1] == 0).all() and (third.gains[:, 1] != 0).any()


def test_the_loss_is_the_weighted_error_and_the_pictures():
    run = make_run(snr_limit=5.0, pixel_weight=0.1)
    third = pfj.prepared(run, pfj.generator_for(3))
    loss, numbers = pfj.third_loss(run, third, injected=False)
    x0 = run.base.predict(third.x, third.sigma, third.seen)
    weights = torch.tensor([min(1 / s**2, 5.0) for s in third.sigma.tolist()])
    expected = (weights * (x0 - third.z_0).square().mean((1, 2, 3))).mean()
    expected = expected + 0.1 * (run.base.decode(x0) - third.target).abs().mean()
    assert loss == pytest.approx(float(expected), rel=1e-5) and numbers["moved"] == 0


@pytest.mark.slow
def test_one_batch_is_learnt():
    run = make_run()
    third = pfj.prepared(run, pfj.generator_for(7))
    pfj.prepared, kept = lambda *_: third, pfj.prepared
    try:
        train(run, 60)
    finally:
        pfj.prepared = kept
    plain = pfj.third_loss(run, third, injected=False)[1]["loss"]  # the base is frozen: only what it reads can help
    assert pfj.third_loss(run, third)[1]["loss"] < 0.95 * plain


def test_two_and_two_steps_are_four(tmp_path):
    whole, first, second = make_run(), make_run(), make_run()
    train(whole, 4)
    train(first, 2)
    save_run(first, tmp_path / "run.safetensors")
    resume_run(second, tmp_path / "run.safetensors")
    train(second, 4)
    one, other = parameters(whole.network), parameters(second.network)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert second.log.rows == whole.log.rows


def test_comparing_trains_nothing():
    run = make_run()
    before = parameters(run.network)
    with_it, without = pfj.compared(run, 2)
    assert with_it == without > 0
    assert all(torch.equal(value, before[name]) for name, value in run.network.named_parameters())


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="first_share 2"):
        PfjTrainConfig(first_share=2)
    with pytest.raises(ValueError, match="expected paper or small"):
        injector_config("huge", 4, 6)
    assert sum(p.numel() for p in Pfj(injector_config("paper", 4, 6)).parameters()) == 4_633_232
    base = SmallBase()
    base.timesteps = base.timesteps[:2]
    with pytest.raises(ValueError, match="a chain of 2 calls"):
        pfj.new_pfj_run(PfjTrainConfig(), base, SmoothPictures(), Mmle(MmleConfig()), METRICS, 500.0, Pfj(PfjConfig(3)))
