"""Step-size control: its bound is exact where x0 is linear in 1 / sigma, and its limits are every level and the end."""

import math

import pytest
import torch
from adaptivesr.imaging.tiles import Region
from adaptivesr.sampling.adaptive.step_size import MOVED, Moves, StepSizeControl, StepSizeSettings
from adaptivesr.sampling.adaptive.steppers import Step, euler
from adaptivesr.sampling.adaptive.types import NoiseSpace, Row

SIGMAS = (*(20 * 0.75**i for i in range(24)), 0.0)
ROW = Row(0, 0, Region(0, 0, 4, 4))


def calls(moved, *, sigmas=SIGMAS, **settings):
    """Levels that a region visits whose prediction moves by moved(sigma before, sigma)."""
    policy, index, before, visited = StepSizeControl(StepSizeSettings(**settings), sigmas), 0, None, [0]
    while index < len(sigmas) - 1:
        gains = None if before is None else {MOVED: moved(sigmas[before], sigmas[index])}
        before, index = index, policy.decide(ROW, index, len(sigmas), gains).index
        visited.append(index)
    return visited


def test_at_tolerance_0_a_region_that_moves_visits_every_level():
    assert calls(lambda a, b: 1e-9, tolerance=0.0) == list(range(len(SIGMAS)))


def test_a_region_that_does_not_move_ends_after_its_second_call():
    assert calls(lambda a, b: 0.0, tolerance=1e-3) == [0, 1, len(SIGMAS) - 1]


def test_a_region_that_moves_less_makes_no_more_calls():
    counts = [len(calls(lambda a, b, c=c: c * (1 / b - 1 / a), tolerance=1e-3)) for c in (1e-6, 1e-4, 1e-3, 1e-2, 0.1)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize(("before", "index", "level"), [(0, 1, 2), (3, 5, 6), (3, 5, 12)])
def test_the_bound_is_the_error_of_an_euler_step_where_x0_is_linear_in_1_over_sigma(before, index, level):
    slope, start = 0.03, torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    a, b = (torch.full((1, 1, 1, 1), SIGMAS[i], dtype=torch.float64) for i in (index, level))

    def exact(
        sigma,
    ):  # d(x / sigma) = x0 d(1 / sigma), so with x0 = slope / sigma: x = slope / (2 sigma) + constant sigma
        return slope / (2 * sigma) + start * sigma

    error = float((exact(b) - euler(Step(exact(a), slope / a, a, b))).abs())
    moved = slope * (1 / SIGMAS[index] - 1 / SIGMAS[before])
    for tolerance, reached in ((error * 1.001, True), (error * 0.999, level == index + 1)):
        policy = StepSizeControl(StepSizeSettings(tolerance), SIGMAS)
        assert (policy.furthest(moved, before, index) >= level) is reached


def test_a_jump_to_the_end_is_refused_while_x0_would_still_move_by_more_than_the_tolerance():
    here, low = SIGMAS[20], SIGMAS[-2]
    left = 1e-3 * (1 / low - 1 / here)
    moved = 1e-3 * (1 / here - 1 / SIGMAS[19])
    end = len(SIGMAS) - 1
    assert StepSizeControl(StepSizeSettings(left * 1.001), SIGMAS).furthest(moved, 19, 20) == end
    assert StepSizeControl(StepSizeSettings(left * 0.999), SIGMAS).furthest(moved, 19, 20) < end


@pytest.mark.parametrize("least", [3, 7, 24])
def test_a_region_makes_its_least_calls_even_if_it_does_not_move(least):
    assert len(calls(lambda a, b: 0.0, min_calls=least)) - 1 == least


@pytest.mark.parametrize("most", [1, 2, 5, 24])
def test_a_region_makes_its_most_calls_at_the_most(most):
    assert len(calls(lambda a, b: 10.0, max_calls=most)) - 1 == most


def test_a_flow_decides_as_its_variance_exploding_twin():
    flow = tuple(sigma / (1 + sigma) for sigma in SIGMAS)
    twin = StepSizeControl(StepSizeSettings(2e-3), flow, NoiseSpace.FLOW)
    plain = StepSizeControl(StepSizeSettings(2e-3), SIGMAS)
    for moved in (1e-5, 1e-3, 1e-1):
        assert twin.furthest(moved, 4, 6) == plain.furthest(moved, 4, 6)
    assert StepSizeControl(StepSizeSettings(2e-3), (1.0, *flow), NoiseSpace.FLOW).furthest(1e-3, 0, 1) > 1


def test_a_run_that_ends_above_0_has_no_shortcut_to_its_last_level():
    cut = SIGMAS[:12]
    assert calls(lambda a, b: 1.0, sigmas=cut, tolerance=1e-6) == list(range(12))


@pytest.mark.parametrize("gains", [None, {}, {MOVED: math.nan}])
def test_a_later_call_without_a_finite_change_is_an_error(gains):
    policy = StepSizeControl(StepSizeSettings(), SIGMAS)
    policy.decide(ROW, 0, len(SIGMAS), None)
    with pytest.raises(ValueError, match="region 1 of image 1"):
        policy.decide(ROW, 1, len(SIGMAS), gains)


@pytest.mark.parametrize("settings", [{"tolerance": -1.0}, {"tolerance": math.nan}, {"min_calls": 3, "max_calls": 2}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        StepSizeSettings(**settings)


def test_a_run_of_other_levels_than_the_policy_is_an_error():
    with pytest.raises(ValueError, match="25 levels, the run has 3"):
        StepSizeControl(StepSizeSettings(), SIGMAS).decide(ROW, 0, 3, None)


def test_moves_are_the_rms_of_what_changed_for_each_region_alone():
    moves = Moves()
    rows = [Row(i, 0, Region(0, 4 * i, 4, 4)) for i in range(2)]
    x0 = torch.zeros(2, 3, 4, 4)
    assert moves(rows, x0, [0, 0]) == [{}, {}]
    x0[1] += 0.5
    assert [gains[MOVED] for gains in moves(rows, x0, [1, 3])] == pytest.approx([0.0, 0.5])
    assert moves(rows[1:], x0[1:], [4])[0][MOVED] == pytest.approx(0.0)
