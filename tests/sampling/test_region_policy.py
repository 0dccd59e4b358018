import pytest
from adaptivesr.imaging.tiles import Region
from adaptivesr.sampling.adaptive.policy import BudgetMap, Decision, FixedSchedule, budget_steps, spread_levels
from adaptivesr.sampling.adaptive.types import Row


def row(region_id, image=0):
    return Row(region_id, image, Region(0, 0, 8, 8))


def visited(policy, which, levels):
    """Levels at which calls are made, ending with the final one."""
    path = [0]
    while path[-1] < levels - 1:
        path.append(policy.decide(which, path[-1], levels, None).index)
    return tuple(path)


def test_a_fixed_schedule_visits_every_level():
    assert visited(FixedSchedule(), row(0), 5) == (0, 1, 2, 3, 4)
    assert FixedSchedule().planned_calls(row(0), 5) == 4


@pytest.mark.parametrize("levels", [2, 3, 8, 21])
@pytest.mark.parametrize("steps", [1, 2, 5, 20, 99])
def test_a_budget_is_the_number_of_calls(levels, steps):
    policy = BudgetMap(((steps,),))
    path = visited(policy, row(0), levels)
    assert len(path) - 1 == policy.planned_calls(row(0), levels) == min(steps, levels - 1)


def test_levels_spread_evenly_from_first_to_last():
    assert spread_levels(4, 21) == (0, 5, 10, 15, 20)
    assert spread_levels(1, 21) == (0, 20)
    for calls in range(1, 21):
        levels = spread_levels(calls, 21)
        gaps = {b - a for a, b in zip(levels, levels[1:])}  # noqa: RUF007
        assert max(gaps) - min(gaps) <= 1 and min(gaps) >= 1


def test_images_have_budgets_of_their_own_and_share_the_last():
    policy = BudgetMap(((1, 2), (3, 4)))
    found = [[policy.planned_calls(row(i, image), 9) for i in (0, 1)] for image in (0, 1, 5)]
    assert found == [[1, 2], [3, 4], [3, 4]]


def test_brighter_regions_get_more_steps():
    assert budget_steps([0.0, 0.5, 1.0, -3.0, 7.0], 4, 20) == (4, 12, 20, 4, 20)
    with pytest.raises(ValueError, match="least"):
        budget_steps([0.5], 5, 4)


@pytest.mark.parametrize("steps", [(), ((),), ((3, 0),)])
def test_budgets_that_cannot_be_kept_are_refused(steps):
    with pytest.raises(ValueError, match="budget"):
        BudgetMap(steps)


def test_a_map_for_another_canvas_is_refused():
    with pytest.raises(ValueError, match="2 regions, but the canvas has region 3"):
        BudgetMap(((1, 2),)).planned_calls(row(3), 9)


def test_regions_end_complete_unless_the_policy_says_otherwise():
    assert Decision(3) == Decision(3, reason="complete", keep=False, restore=False)
