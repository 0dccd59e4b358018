"""What bench adaptive counts, on outcomes whose numbers can be done by hand."""

import math
from dataclasses import replace

import pytest
from adaptivesr.tools.bench.parts import adaptive_counts as counts
from adaptivesr.tools.bench.parts import adaptive_tables as tables
from adaptivesr.tools.bench.parts.adaptive_counts import Outcome

QUALITY = {"psnr": 26.0, "ssim": 0.8, "nlpd": 0.4, "gmsd": 0.1, "vif": 0.5}


def outcome(steps, fixed=40, **quality):
    return Outcome(
        calls=sum(steps), fixed_calls=fixed * len(steps), steps=tuple(steps), detail=tuple(range(len(steps))),
        quality={**QUALITY, **quality}, ger=0.3, seam=1.0, seconds=1.0, network_seconds=0.5, estimator_seconds=0.02,
        macs={"network": 200.0, "estimator": 1.0},
    )  # fmt: skip


FIXED = [outcome([40] * 3), outcome([40] * 2)]


def test_saved_is_counted_in_region_evaluations_over_all_pictures():
    assert counts.saved(FIXED) == 0
    assert counts.saved([outcome([10, 20, 30]), outcome([40, 40])]) == pytest.approx(60 / 200)


@pytest.mark.parametrize(
    ("name", "value", "lost"),
    [("psnr", 25.9, 0.1), ("psnr", 26.2, -0.2), ("ssim", 0.792, 0.01), ("nlpd", 0.404, 0.01), ("gmsd", 0.09, -0.1)],
)
def test_worse_is_decibels_of_psnr_and_a_share_of_everything_else(name, value, lost):
    assert counts.worse([outcome([40], **{name: value})] * 2, FIXED, name) == pytest.approx(lost)


def test_the_goal_needs_half_the_work_and_every_measure():
    half = outcome([20, 20, 20])
    assert counts.reaches_goal([half], FIXED[:1])
    for changes in ({"psnr": 25.89}, {"ssim": 0.79}, {"nlpd": 0.405}, {"vif": 0.49}):
        assert not counts.reaches_goal([outcome([20, 20, 20], **changes)], FIXED[:1])
    assert not counts.reaches_goal([outcome([20, 20, 21])], FIXED[:1])


def test_thirds_and_rank_correlation_follow_the_truths_detail():
    rising = outcome([10, 11, 20, 21, 30, 31, 40])
    assert counts.thirds(rising) == (10.5, 35.5)
    assert counts.thirds(replace(rising, detail=tuple(range(7, 0, -1)))) == (35.5, 10.5)
    assert counts.follows_detail([rising]) == pytest.approx(1)
    assert counts.follows_detail([rising, replace(rising, detail=tuple(range(7, 0, -1)))]) == pytest.approx(0)
    assert counts.rank_correlation([1, 2, 3], [5, 5, 5]) == 0
    assert counts.ranks([3, 1, 3, 2]) == [2.5, 0, 2.5, 1]
    # by hand: ranks 0 1.5 1.5 3 against 0 1 2 3
    assert counts.rank_correlation([1, 2, 2, 4], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_agreement_is_within_a_tenth_of_the_other_estimators_steps():
    mine, theirs = outcome([10, 22, 33, 18]), outcome([10, 20, 30, 20])
    assert counts.agreement([mine], [theirs]) == (pytest.approx(1.0), pytest.approx(0.075))
    assert counts.agreement([outcome([10, 25])], [outcome([10, 20])]) == (0.5, 0.125)


def test_the_estimators_cost_is_a_share_of_the_networks():
    assert counts.estimator_cost(FIXED) == (pytest.approx(0.04), pytest.approx(0.005))


def test_paired_differences_have_the_interval_of_student():
    ours, theirs = (
        [outcome([40], psnr=value) for value in values] for values in ((26.1, 26.3, 26.5), (26.0, 26.0, 26.0))
    )
    mean, half = counts.paired(ours, theirs, "psnr")
    # differences 0.1, 0.3, 0.5: deviation 0.2, and 4.303 for two degrees of freedom
    assert mean == pytest.approx(0.3) and half == pytest.approx(4.303 * 0.2 / 3**0.5, rel=1e-3)
    assert counts.paired(ours, ours, "ger") == (0, 0) and math.isnan(counts.paired(ours[:1], theirs[:1], "psnr")[1])


def test_the_contest_names_work_and_difference_of_every_pair():
    found = {"gains": [outcome([10, 20], psnr=26.2)] * 2, "even": [outcome([15, 16], psnr=26.1)] * 2}
    head, rule, row = tables.contest_table(found, {"gains": ["even"]})
    assert head.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| gains | even | 60 - 62 | +0.1000 ± 0.0000 |")


def test_tables_have_a_cell_for_every_column_and_both_signs(tmp_path):
    found = {tables.FIXED: FIXED, "latent": [outcome([10, 20, 30], psnr=26.2, nlpd=0.412), outcome([9, 9])]}
    for lines in (tables.quality_table(found), tables.steps_table(found, "latent"), tables.seam_table(found)):
        assert len({line.count("|") for line in lines}) == 1
    row = tables.quality_table(found)[-1]
    assert "| latent | 78 | 61.0 % |" in row and "+0.10" in row and "| -1.5 |" in row
    curves = {"latent": {0.005: found["latent"]}}
    for lines in (tables.curve_table(curves, FIXED), tables.even_table({10: FIXED}, FIXED)):
        assert len({line.count("|") for line in lines}) == 1
    tables.plot_curves(curves, {10: found["latent"]}, FIXED, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
