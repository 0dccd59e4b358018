"""The training-free schedule: its formula, presets, levels."""

import json
from pathlib import Path

import pytest
import torch
from adaptivesr.sampling.control_schedule import MIDDLE, PRESETS, ControlSchedule, level_of
from adaptivesr.sampling.spaced import spaced_timesteps

META = Path(__file__).resolve().parents[1] / "golden" / "tasr" / "meta.json"
SAMPLES = json.loads(META.read_text(encoding="utf-8"))["training_free_schedule"]
LEVELS = {0: 0.0, 1: 50.0, 2: 100.0, 3: 150.0, 4: 150.0, MIDDLE: 200.0}


@pytest.mark.parametrize("entry", SAMPLES, ids=lambda entry: f"{entry['s_lo']}-{entry['t_off']}-{entry['t_on']}")
def test_sampled_values(entry):
    schedule = ControlSchedule(entry["s_lo"], entry["t_off"], entry["t_on"])
    expected = torch.tensor(entry["s"], dtype=torch.float64)
    found = schedule.factors(torch.tensor(entry["t"])).double()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("level", LEVELS)
def test_deep_levels_end_later(level):
    schedule = ControlSchedule(0.0, 200.0, 400.0, per_site=True)
    shifted = ControlSchedule(0.0, 200.0 - LEVELS[level], 400.0)
    times = torch.arange(0, 1000, 37)
    assert torch.equal(schedule.factors(times, level), shifted.factors(times))
    plain = ControlSchedule(0.0, 200.0, 400.0)
    assert torch.equal(plain.factors(times, level), plain.factors(times))


def test_every_row_has_its_own_factor():
    factors = PRESETS["off_late"].factors(torch.tensor([999.0, 300.0, 200.0, 0.0]))
    assert factors.tolist() == [1.0, 0.5, 0.0, 0.0]


def test_constant_is_1_to_the_last_bit():
    assert PRESETS["constant"].constant
    assert torch.equal(PRESETS["constant"].factors(torch.arange(1000)), torch.ones(1000))


@pytest.mark.parametrize(
    ("preset", "of_20", "of_50"), [("off_late", 4, 10), ("drop10", 4, 10), ("soft", 0, 0), ("constant", 0, 0)]
)
def test_share_of_silent_steps(preset, of_20, of_50):
    """drop10 drops 10 of 50 steps and 4 of 20 (TASR, fig. 1)."""
    for steps, silent in ((20, of_20), (50, of_50)):
        times = torch.tensor(spaced_timesteps(steps)).view(-1, 1)
        assert sum(PRESETS[preset].silent(time) for time in times) == silent


def test_silence_needs_every_row_and_every_level():
    assert not PRESETS["off_late"].silent(torch.tensor([0.0, 201.0]))
    assert PRESETS["off_late"].silent(torch.tensor([0.0, 200.0]))
    deep = ControlSchedule(0.0, 200.0, 400.0, per_site=True)
    assert deep.silent(torch.tensor([0.0])) and not deep.silent(torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("size", "full", "level"), [(64, 64, 0), (32, 64, 1), (33, 65, 1), (8, 64, 3), (9, 65, 3), (1, 1, 0), (70, 64, 0)]
)
def test_levels_by_size(size, full, level):
    assert level_of(size, full) == level
