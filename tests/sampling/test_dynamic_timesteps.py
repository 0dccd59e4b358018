import math
from itertools import pairwise

import pytest
from adaptivesr.imaging.tiles import Region
from adaptivesr.sampling.adaptive.choices import GrowingRule, JumpRule
from adaptivesr.sampling.adaptive.dynamic import CallClass, DynamicSettings, DynamicTimesteps, RegionState, advance
from adaptivesr.sampling.adaptive.types import Row
from adaptivesr.tools.golden.adadiffsr_codebook import grid_timesteps

GRID = grid_timesteps()[::-1]
SLOW, FAST = 0.001, 0.02  # gains per grid step, below tau and above 2 tau


def row(region_id=0, image=0):
    return Row(region_id, image, Region(0, 0, 8, 8))


def follow(settings=None, script=lambda t: (SLOW, SLOW), *, change=None, grid=GRID):
    """(indices j of the calls, decisions, state) of one region; script gives the rates (fr, nr) at a timestep."""
    policy, which = DynamicTimesteps(settings or DynamicSettings(), grid), row()
    levels, index, places, decisions = len(grid) + 1, 0, [], []
    while index < levels - 1:
        jump = 1 if not decisions else index - (levels - 2 - places[-1])
        fr, nr = script(grid[index])
        gains = {"fr": math.tanh(fr * jump), "nr": math.tanh(nr * jump)}
        if change is not None:
            gains["change"] = change * jump
        places.append(levels - 2 - index)
        decisions.append(policy.decide(which, index, levels, gains if len(places) > 1 else None))
        index = decisions[-1].index
    return places, decisions, policy.states[0, 0]


def jumps(places):
    return [a - b for a, b in pairwise(places)]


def test_a_growing_region_is_the_plain_sampler():
    places, decisions, state = follow(script=lambda t: (FAST, FAST))
    assert places == list(range(199, -1, -1))
    assert state.calls == 200 and decisions[-1].reason == "complete" and not decisions[-1].restore
    assert set(state.classes[1:]) == {CallClass.GROWING}


def test_a_flat_region_climbs_the_ladder_one_rung_a_call():
    places, _, state = follow()
    assert jumps(places)[:6] == [1, 1, 2, 3, 4, 4]
    assert state.calls == 53 and places[-1] == 0
    assert max(jumps(places)) == 4


def test_a_region_that_starts_to_grow_drops_to_the_first_rung_at_once():
    places, _, _ = follow(script=lambda t: (FAST if t < 700 else SLOW, FAST))
    first = next(i for i, j in enumerate(places) if GRID[199 - j] < 700)
    assert jumps(places)[first - 1 : first + 1] == [4, 1]
    mild, _, _ = follow(script=lambda t: (0.0075 if t < 700 else SLOW, FAST))
    first = next(i for i, j in enumerate(mild) if GRID[199 - j] < 700)
    assert jumps(mild)[first - 1 : first + 4] == [4, 3, 2, 1, 1]


def falling_below(t_start):
    return lambda t: (SLOW, -0.02 if t < t_start else FAST)


def test_falling_quality_ends_a_region_with_its_best_prediction():
    places, decisions, state = follow(script=falling_below(250))
    assert state.status == "saturated" and decisions[-1].restore and decisions[-1].index == 200
    best = max(i for i, decision in enumerate(decisions) if decision.keep)
    assert state.best_call == best + 1 == len(decisions) - 2  # patience 2: the two falling calls follow the best one
    assert GRID[199 - places[best]] >= 250 > GRID[199 - places[best + 1]]
    assert [decision.restore for decision in decisions].count(True) == 1


def test_one_dip_does_not_end_a_region():
    places, _, state = follow(script=lambda t: (SLOW, -0.02 if 240 <= t <= 244 else FAST))
    assert state.status == "complete" and CallClass.HOLD in state.classes and state.falling == 0
    held = state.classes.index(CallClass.HOLD)
    assert jumps(places)[held - 1] == jumps(places)[held]  # the rung is frozen


def test_quality_that_falls_early_ends_the_region_only_at_t_sat_max():
    places, _, state = follow(script=falling_below(450))
    last = GRID[199 - places[-1]]
    assert state.status == "saturated" and last <= 300 < GRID[199 - places[-2]]


def test_quality_counts_from_the_second_call_below_t_half():
    seen = {}

    def script(t):
        seen[t] = True
        return SLOW, FAST

    places, _, state = follow(script=script)
    below = [j for j in places if GRID[199 - j] < 500]
    expected = sum(math.tanh(FAST * jump) for jump in jumps(below))
    assert state.quality == pytest.approx(expected, rel=1e-12)
    above = state.classes[1 : len(places) - len(below) + 1]
    assert set(above) == {CallClass.STABLE}  # quality grows fast there, but is not looked at


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20, 60])
def test_no_region_makes_more_calls_than_allowed(limit):
    settings = DynamicSettings(min_calls=1, max_calls=limit)
    places, decisions, state = follow(settings, lambda t: (FAST, FAST))
    assert len(places) == state.calls == limit
    assert state.status == ("budget" if limit == 1 else "complete")
    assert decisions[-1].index == 200 and not decisions[-1].restore
    assert DynamicTimesteps(settings, GRID).planned_calls(row(), 201) == limit


@pytest.mark.parametrize("least", [0, 60, 120, 200, 400])
def test_no_region_makes_fewer_calls_than_asked_for(least):
    settings = DynamicSettings(min_calls=least, max_calls=max(200, least))
    _, _, state = follow(settings)
    assert state.calls >= min(least, 200)
    _, _, ended = follow(settings, falling_below(250))
    assert ended.calls >= min(least, 200)


def test_the_tail_guard_takes_the_last_entries_one_by_one():
    places, _, _ = follow(DynamicSettings(tail_guard=6))
    assert [a - b for a, b in pairwise(places) if a <= 6] == [1, 1, 1, 1] and 4 in jumps(places)


def test_the_rule_by_phase_and_class():
    def stable(rule):
        return follow(DynamicSettings(rule=rule))[0]

    phase = stable(JumpRule.PHASE_CLASS)
    assert jumps(phase)[:2] == [1, 1]  # warmup
    first = [a - b for a, b in pairwise(phase[2:]) if GRID[199 - a] >= 500]
    second = [a - b for a, b in pairwise(phase[2:]) if GRID[199 - a] < 500]
    assert set(first) == {3} and set(second[:-1]) == {4}
    growing, _, _ = follow(DynamicSettings(rule=JumpRule.PHASE_CLASS), lambda t: (FAST, FAST))
    sides = [{a - b for a, b in pairwise(growing[2:]) if (GRID[199 - a] >= 500) is high} for high in (True, False)]
    assert sides == [{2}, {1}]


@pytest.mark.parametrize(("rate", "jump"), [(0.03, 1), (0.015, 2), (0.007, 3), (0.004, 4), (-0.03, 1), (-0.007, 3)])
def test_the_rule_by_magnitude(rate, jump):
    places, _, _ = follow(DynamicSettings(rule=JumpRule.MAGNITUDE), lambda t: (rate, SLOW))
    assert jumps(places)[2] == jump
    assert jumps(places)[:2] == [1, 1]


@pytest.mark.parametrize("rule", JumpRule)
def test_every_rule_holds_its_rung_while_falling_quality_is_not_believed(rule):
    settings = DynamicSettings(rule=rule, patience=1000)
    places, _, state = follow(settings, falling_below(250))
    held = [i for i, kind in enumerate(state.classes) if kind is CallClass.HOLD][:-2]
    assert held and len({jumps(places)[i] for i in [held[0] - 1, *held]}) == 1


def test_a_prediction_that_stands_still_is_stable_whatever_the_gains():
    growing = lambda t: (FAST, FAST)  # noqa: E731
    assert follow(DynamicSettings(still=2e-3), growing, change=1e-3)[2].calls == 53
    assert follow(DynamicSettings(still=2e-3), growing, change=3e-3)[2].calls == 200
    assert follow(DynamicSettings(), growing, change=1e-3)[2].calls == 200


@pytest.mark.parametrize(
    ("rates", "both", "either"),
    [
        ((FAST, FAST), True, True),
        ((SLOW, FAST), False, True),  # better without getting closer to the input
        ((-FAST, SLOW), False, True),  # drifts away
        ((-FAST, FAST), False, True),
        ((FAST, SLOW), False, False),
        ((None, FAST), True, True),  # nothing is compared with the input
    ],
)
def test_what_makes_a_region_grow_below_t_half(rates, both, either):
    fr, nr = rates
    for rule, grows in ((GrowingRule.BOTH, both), (GrowingRule.EITHER, either)):
        state, settings = RegionState(calls=3, jump=1, quality_started=True), DynamicSettings(growing=rule)
        gains = {"nr": math.tanh(nr)} | ({} if fr is None else {"fr": math.tanh(fr)})
        advance(state, settings, 50, 250.0, gains)
        assert state.classes == [CallClass.GROWING if grows else CallClass.STABLE], rule


def test_above_t_half_both_rules_look_at_the_change_alone():
    for rule in GrowingRule:
        state = RegionState(calls=3, jump=1)
        advance(state, DynamicSettings(growing=rule), 150, 750.0, {"fr": -FAST})
        assert state.classes == [CallClass.GROWING]


def test_metrics_without_quality_decide_alone():
    policy = DynamicTimesteps(DynamicSettings(), GRID)
    index = 0
    while index < 200:
        index = policy.decide(row(), index, 201, {"fr": 0.0}).index
    state = policy.states[0, 0]
    assert state.status == "complete" and state.calls == 53 and state.nr is None


def test_regions_and_images_have_states_of_their_own():
    policy = DynamicTimesteps(DynamicSettings(), GRID)
    for _ in range(2):
        assert policy.decide(row(0, 0), 0, 201, None).index == 1
        policy.states.clear()
    policy.decide(row(0, 0), 0, 201, None)
    policy.decide(row(1, 0), 0, 201, None)
    policy.decide(row(0, 1), 0, 201, None)
    assert set(policy.states) == {(0, 0), (0, 1), (1, 0)}
    assert policy.states[0, 1].classes == [CallClass.WARMUP]


def test_a_short_grid_keeps_the_proportions():
    short = DynamicSettings(tail_guard=10).on_grid(40)
    assert (short.min_calls, short.max_calls, short.tail_guard, short.jumps) == (4, 40, 2, (1, 2, 3, 4))
    assert short.tau == pytest.approx(0.025)
    assert DynamicSettings().on_grid(200) == DynamicSettings()
    assert DynamicSettings(still=2e-3).on_grid(20).still == pytest.approx(2e-2)
    assert DynamicSettings(min_calls=1, max_calls=1).on_grid(10).max_calls == 1
    grid = [999 * i / 39 for i in range(39, -1, -1)]
    places, _, _ = follow(short, lambda t: (FAST, SLOW), grid=grid)
    assert jumps(places)[:5] == [1, 1, 2, 3, 4]  # 0.02 a step is little when a step is five times as long


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jumps": (1, 2, 3)}, "four whole numbers"),
        ({"jumps": (0, 2, 3, 4)}, "four whole numbers"),
        ({"jumps": (1, 3, 2, 4)}, "do not fall"),
        ({"tau": -0.1}, "tau -0.1: expected a finite"),
        ({"tau": math.nan}, "tau nan"),
        ({"t_half": math.inf, "t_sat_max": 0.0}, "t_half inf"),
        ({"t_sat_max": 600.0}, "t_sat_max 600 above t_half 500"),
        ({"patience": 0}, "patience 0: expected at least 1"),
        ({"warmup": -1}, "warmup -1"),
        ({"max_calls": 0, "min_calls": 0}, "max_calls 0"),
        ({"tail_guard": -1}, "tail_guard -1"),
        ({"min_calls": 201}, "min_calls 201 above max_calls 200"),
        ({"still": -1.0}, "still -1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DynamicSettings(**change)


def test_a_grid_without_entries_is_refused():
    with pytest.raises(ValueError, match="grid of 0 entries"):
        DynamicSettings().on_grid(0)


@pytest.mark.parametrize("timesteps", [(), (5.0, 6.0), (math.nan,)])
def test_timesteps_that_do_not_fall_are_refused(timesteps):
    with pytest.raises(ValueError, match="finite and falling"):
        DynamicTimesteps(DynamicSettings(), timesteps)


def test_a_run_of_another_length_is_refused():
    policy = DynamicTimesteps(DynamicSettings(), GRID)
    for ask in (lambda: policy.planned_calls(row(), 100), lambda: policy.decide(row(), 0, 100, None)):
        with pytest.raises(ValueError, match="made for 200 calls, the run has 99"):
            ask()


def test_missing_and_broken_gains_are_refused():
    policy = DynamicTimesteps(DynamicSettings(), GRID)
    policy.decide(row(), 0, 201, None)
    with pytest.raises(ValueError, match="got no gains"):
        policy.decide(row(), 1, 201, None)
    with pytest.raises(ValueError, match=r"'fr' of region 1 of image 1 is nan"):
        policy.decide(row(), 1, 201, {"fr": math.nan})
