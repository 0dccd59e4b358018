"""The exact base's runs and oracle, on canvases small enough to try everything."""

from itertools import pairwise, product

import pytest
from adaptivesr.sampling.adaptive.policy import BudgetMap, FixedSchedule
from adaptivesr.sampling.adaptive.step_size import Moves, StepSizeControl, StepSizeSettings
from adaptivesr.tools.exact.canvas import stripes
from adaptivesr.tools.exact.runs import ExactTrial, even_curve, oracle
from adaptivesr.tools.exact.theory import karras

HALF = stripes(("flat", "texture"), regions=2, size=8)


def test_no_allotment_is_better_than_the_oracle_and_one_is_as_good():
    areas = [p.gaussian for p in stripes(("flat", "soft", "texture"), regions=3, size=8).posteriors[:3]]
    curves = even_curve(areas, 9)
    best = {}
    for counts in product(range(1, 10), repeat=3):
        error = sum(curve[n - 1] for curve, n in zip(curves, counts)) / 3
        best[sum(counts)] = min(error, best.get(sum(counts), error))
    found = {round(calls * 3): error for calls, error in oracle(curves)}
    assert all(found[total] <= error * (1 + 1e-9) for total, error in best.items())
    # from five steps on the curve of texture is convex itself
    assert all(found[total] == pytest.approx(error, rel=1e-3) for total, error in best.items() if total >= 9)


def test_the_curve_of_even_steps_is_convex_from_the_third_step_on():
    (curve,) = even_curve([HALF.posteriors[1].gaussian], 40)
    gains = [a - b for a, b in pairwise(curve[3:])]
    assert all(a > b > 0 for a, b in pairwise(gains))


def test_a_run_counts_the_calls_and_the_distance_that_its_levels_say():
    trial = ExactTrial(HALF, 0)
    found = trial.run(karras(5), FixedSchedule(), lambda rows, x0, levels: [{} for _ in rows])
    curves = even_curve([p.gaussian for p in HALF.posteriors], 5)
    assert found.calls == (5,) * 4
    assert found.errors == pytest.approx([curve[-1] for curve in curves])


def test_the_distance_to_a_fine_run_is_the_closed_form_where_there_is_one():
    trial = ExactTrial(stripes(("texture",), regions=4, size=8, high=4), 0)
    budget = BudgetMap(((5, 9) * 8,))
    closed = trial.run(karras(12), budget).error
    trial.__dict__["exact"] = False
    assert trial.run(karras(12), budget).error == pytest.approx(closed, rel=0.1)


def test_step_size_control_gives_flat_regions_fewer_calls_without_a_prior():
    found = ExactTrial(HALF, 0).run(karras(40), StepSizeControl(StepSizeSettings(), karras(40)), Moves())
    flat, busy = found.calls[0::2], found.calls[1::2]
    assert max(flat) <= 3
    assert min(busy) >= 4 * max(flat)


@pytest.mark.parametrize("tolerance", [2e-3, 8e-3])
def test_step_size_control_needs_less_than_even_steps_of_the_same_distance(tolerance):
    sigmas = karras(60)
    found = ExactTrial(HALF, 0).run(sigmas, StepSizeControl(StepSizeSettings(tolerance), sigmas), Moves())
    curves = even_curve([p.gaussian for p in HALF.posteriors], 80)
    even = [sum(errors) / len(curves) for errors in zip(*curves)]
    assert even[round(1.5 * found.mean_calls) - 1] > found.error
