"""Priors of regions: flat ones need greater gains, whatever the order, and nothing changes where all are alike."""

import pytest
import torch
from adaptivesr.imaging.tiles import grid
from adaptivesr.sampling.adaptive import dynamic
from adaptivesr.sampling.adaptive.prior import MOST, NO_PRIOR, RegionPrior, detail_priors, region_priors
from adaptivesr.sampling.adaptive.types import rows_of

DETAILS = [0.5, 1.0, 2.0, 0.5, 1.0, 1.0]


def test_factors_are_the_ratio_of_energies_and_the_flattest_third_starts_faster():
    found = detail_priors(DETAILS, 1.0)
    assert [prior.tau_factor for prior in found] == pytest.approx([4, 1, 0.25, 4, 1, 1])
    assert [prior.start for prior in found] == [1, 0, 0, 1, 0, 0]
    half = detail_priors(DETAILS, 0.5)
    assert [prior.tau_factor for prior in half] == pytest.approx([2, 1, 0.5, 2, 1, 1])


def test_factors_have_limits_and_regions_without_any_detail_reach_them():
    flat, *busy = detail_priors([0.0, 1.0, 1.0, 98.0], 1.0)
    assert flat.tau_factor == pytest.approx(MOST) and busy[-1].tau_factor == pytest.approx(1 / MOST)
    tiny = detail_priors([0.0, 1e-300, 1.0], 2.0)
    assert [prior.tau_factor for prior in tiny] == pytest.approx([MOST, MOST, 1 / MOST])


@pytest.mark.parametrize(
    ("details", "strength"), [(DETAILS, 0.0), ([0.0] * 5, 1.0), ([0.7] * 6, 1.0), ([2.0], 1.0), ([], 1.0)]
)
def test_where_nothing_tells_regions_apart_there_is_no_prior(details, strength):
    assert detail_priors(details, strength) == [NO_PRIOR] * len(details)


def test_an_image_is_compared_with_itself_and_the_order_of_rows_does_not_matter():
    generator = torch.Generator().manual_seed(1)
    canvas = torch.randn(2, 4, 16, 32, generator=generator)
    canvas[0, :, :, :16] *= 0.1
    canvas[1] *= 7  # all of it busier than the other image
    rows = rows_of(grid(16, 32, 8, 2), 2)
    found = region_priors(canvas, rows, 1.0)
    backwards = region_priors(canvas, rows[::-1], 1.0)
    alone = region_priors(canvas[1:], rows_of(grid(16, 32, 8, 2), 1), 1.0)
    for row in rows:
        key = row.image, row.region_id
        assert backwards[key].tau_factor == pytest.approx(found[key].tau_factor)
        if row.image == 1:
            assert found[key].tau_factor == pytest.approx(alone[0, row.region_id].tau_factor)
    left = [found[0, row.region_id].tau_factor for row in rows if row.image == 0 and row.region.x == 0]
    right = [found[0, row.region_id].tau_factor for row in rows if row.image == 0 and row.region.x == 24]
    assert min(left) > 1 > max(right)


def run(prior, rate):
    """Steps of a region whose gain per grid step is always the same, on a grid of 40."""
    row = rows_of(grid(8, 8, 8, 0), 1)[0]
    settings = dynamic.DynamicSettings(t_sat_max=0.0, patience=10**9).on_grid(40)
    policy = dynamic.DynamicTimesteps(settings, [999 * (39 - i) / 39 for i in range(40)], {(0, 0): prior})
    index, calls, first = 0, 0, []
    while index < 40:
        jump = policy.states[0, 0].jump if (0, 0) in policy.states else 1
        index = policy.decide(row, index, 41, {"fr": rate * jump, "nr": rate * jump}).index
        first.append(index)
        calls += 1
    return calls, first


def test_a_prior_scales_the_threshold_and_sets_the_first_jumps():
    tau = dynamic.DynamicSettings().on_grid(40).tau
    assert run(NO_PRIOR, 3 * tau)[0] == 40
    assert run(RegionPrior(0, 4.0), 3 * tau)[0] == run(NO_PRIOR, 0.5 * tau)[0] < 20
    assert run(RegionPrior(0, 0.25), 0.6 * tau)[0] == 40
    slow, fast = run(NO_PRIOR, 0.0)[1], run(RegionPrior(start=1), 0.0)[1]
    assert slow[:3] == [1, 2, 4] and fast[:3] == [2, 4, 7]


def test_without_priors_the_state_machine_is_the_same():
    assert dynamic.DynamicTimesteps(dynamic.DynamicSettings(), [999.0, 0.0]).priors == {}
    settings = dynamic.DynamicSettings()
    assert settings.scaled(1.0) is settings and settings.scaled(2.0).tau == 2 * settings.tau
