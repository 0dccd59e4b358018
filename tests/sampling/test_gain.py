import math

import pytest
from adaptivesr.sampling.adaptive import gain
from adaptivesr.sampling.adaptive.gain import GainMetric

PSNR, LPIPS, AHIQ, NLPD, BRISQUE, MUSIQ = gain.PAPER_METRICS


def test_larger_is_always_better_and_ends_are_clipped():
    assert [gain.normalised(PSNR, value) for value in (5.0, 10.0, 22.5, 35.0, math.inf)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert [gain.normalised(BRISQUE, value) for value in (-5.0, 25.0, 400.0)] == [1.0, 0.75, 0.0]
    assert gain.normalised(MUSIQ, math.nan) is None


def test_the_six_metrics_have_the_papers_directions_and_groups():
    assert [metric.name for metric in gain.PAPER_METRICS if metric.lower_better] == ["lpips", "nlpd", "brisque"]
    assert [metric.name for metric in gain.PAPER_METRICS if not metric.full_reference] == ["brisque", "musiq"]
    for full_reference in (True, False):
        assert sum(m.weight for m in gain.PAPER_METRICS if m.full_reference is full_reference) == 1.0


def test_a_group_of_one_metric_is_its_gain():
    one = gain.chosen(gain.PAPER_METRICS, ["psnr", "musiq"])
    found = gain.group_gains(one, {"psnr": 0.2, "musiq": -0.1})
    assert found == pytest.approx({"fr": 0.2, "nr": -0.1}, rel=1e-12)


def test_groups_are_the_papers_formula_restricted_to_them():
    before, now = (0.1, 0.4, 0.5, 0.9), (0.3, 0.35, 0.5, 0.95)
    names = ("psnr", "lpips", "ahiq", "nlpd")
    gains = {name: gain.metric_gain(a, b) for name, a, b in zip(names, before, now)}
    expected = math.tanh(sum(now) / 4 - sum(before) / 4)
    assert gain.group_gains(gain.PAPER_METRICS, gains) == pytest.approx({"fr": expected}, rel=1e-12)


def test_undefined_gains_count_as_nothing():
    gains = {"psnr": 0.2}
    found = gain.group_gains(gain.PAPER_METRICS, gains)
    assert found == pytest.approx({"fr": math.tanh(math.atanh(0.2) / 4)})
    assert gain.group_gains(gain.PAPER_METRICS, {}) == {}


def test_extreme_gains_stay_finite():
    assert gain.group_gains([PSNR], {"psnr": 1.0})["fr"] < 1.0
    assert gain.group_gains([PSNR], {"psnr": -1.0})["fr"] > -1.0


def test_a_choice_of_metrics_is_weighted_equally_within_each_group():
    chosen = gain.chosen(gain.PICTURE_METRICS, ["nlpd", "psnr", "sharpness", "psnr"])
    assert [(m.name, m.weight) for m in chosen] == [("nlpd", 0.5), ("psnr", 0.5), ("sharpness", 1.0)]


@pytest.mark.parametrize("names", [[], ["psnr", "vif"]])
def test_metrics_that_are_not_there_are_refused(names):
    with pytest.raises(ValueError, match="expected some of psnr, nlpd, sharpness"):
        gain.chosen(gain.LATENT_METRICS, names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 2.0, "high": 2.0}, "low below high"),
        ({"low": math.nan, "high": 2.0}, "low below high"),
        ({"low": 0.0, "high": 1.0, "weight": -1.0}, "weight -1.0"),
        ({"low": 0.0, "high": 1.0, "weight": math.inf}, "weight inf"),
    ],
)
def test_metrics_that_mean_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        GainMetric("x", **change)
