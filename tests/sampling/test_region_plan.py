"""Forecasts count what the loop does; budget maps give bright regions more steps."""

import pytest
import torch
from adaptivesr.imaging.tiles import grid
from adaptivesr.sampling.adaptive.choices import MergeMode
from adaptivesr.sampling.adaptive.plan import describe, forecast, policy_for, target_size
from adaptivesr.sampling.adaptive.policy import FixedSchedule
from adaptivesr.sampling.adaptive.sampler import canvas_noise, sample_regions
from adaptivesr.sampling.adaptive.steppers import NoiseSpace, stepper_for
from adaptivesr.sampling.adaptive.types import rows_of
from adaptivesr.sampling.batching import BatchSize


@pytest.mark.parametrize("merge", list(MergeMode))
@pytest.mark.parametrize("rows", [1, 4, 7, 100])
def test_the_forecast_is_what_the_loop_counts(merge, rows):
    regions, x, sigmas = grid(20, 28, 8, 2), torch.zeros(2, 1, 20, 28), [3.0, 2.0, 1.0, 0.0]
    result = sample_regions(
        lambda x, sigma, rows: x * 0.5, x, sigmas, regions=regions, merge=merge, policy=FixedSchedule(),
        stepper=stepper_for("euler", NoiseSpace.VARIANCE_EXPLODING), noise=canvas_noise(x, 0), rows_per_call=BatchSize(rows),
    )  # fmt: skip
    expected = forecast(regions, images=2, steps=3, rows_per_call=rows)
    work = result.work
    assert (expected.calls, expected.rows, expected.latent_cells) == (work.calls, work.rows, work.latent_cells)
    assert (expected.images, expected.tiles) == (2, len(regions))


def test_budgets_follow_brightness_whatever_the_size_of_the_mask():
    regions = grid(8, 24, 8, 0)
    mask = torch.cat([torch.zeros(1, 4, 4), torch.full((1, 4, 4), 0.5), torch.ones(1, 4, 4)], dim=2)
    for enlarged in (mask, mask.repeat_interleave(16, 1).repeat_interleave(16, 2)):
        policy = policy_for(enlarged, regions, (8, 24), 9)
        calls = [policy.planned_calls(row, 10) for row in rows_of(regions, 1)]
        assert calls[0] <= 2 and calls[1] == 5 and calls[2] >= 8


def test_each_image_of_a_batch_follows_its_own_mask():
    regions = grid(8, 8, 8, 0)
    policy = policy_for(torch.stack([torch.zeros(8, 8), torch.ones(8, 8)]), regions, (8, 8), 6)
    assert [policy.planned_calls(row, 7) for row in rows_of(regions, 2)] == [1, 6]


def test_no_budget_means_every_step_and_a_wrong_one_is_a_sentence():
    assert policy_for(None, grid(8, 8, 8, 0), (8, 8), 4) == FixedSchedule()
    with pytest.raises(ValueError, match=r"\(2, 2\): expected a MASK"):
        policy_for(torch.zeros(2, 2), grid(8, 8, 8, 0), (8, 8), 4)


@pytest.mark.parametrize(
    ("side", "scale", "expected"), [(512, 4.0, 2048), (33, 4.0, 136), (1, 0.1, 8), (100, 1.0, 104)]
)
def test_targets_are_whole_cells(side, scale, expected):
    assert target_size(side, scale, 8) == expected


def test_a_report_is_one_line_that_names_trouble_only_where_there_was_some():
    report = {
        "tiles": 4, "images": 1, "steps": 20, "steps_per_region": [[20, 3, 20, 20]], "region_calls": 63, "calls": 21,
        "latent_mpx": 0.258, "skipped": 0.2125, "seconds": 3.2, "batch_sizes": {"3": 21}, "peak_gb": None,
        "halvings": 0, "float32_retries": 0,
    }  # fmt: skip
    line = describe(report)
    assert (
        line.startswith("4 regions, 3 to 20 of 20 steps")
        and "halvings" not in line
        and "peak" not in line
        and "\n" not in line
    )
    assert describe({**report, "tiles": 1, "images": 2}).startswith("1 region in each of 2 images, ")
    assert "TFLOP" not in describe({**report, "tflop": None})
    assert "0.258 latent Mpx (42.1 TFLOP)" in describe({**report, "tflop": 42.123})
    assert "2 halvings" in describe({**report, "halvings": 2, "peak_gb": 3.5})
