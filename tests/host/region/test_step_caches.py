"""What the host's step caches make of a run on the exact base: the closed form of `bench reuse` is that of the run itself."""

import pytest
import torch
from adaptivesr.sampling.adaptive.policy import FixedSchedule
from adaptivesr.tools.bench.reuse import EASY, LAZY, CachedModel, walked
from adaptivesr.tools.exact.canvas import stripes
from adaptivesr.tools.exact.runs import ExactTrial, Recorded
from adaptivesr.tools.exact.theory import karras

THRESHOLD = 0.1
SIGMAS = karras(20)


@pytest.mark.parametrize("by_region", [False, True])
@pytest.mark.parametrize("kind", [EASY, LAZY])
def test_a_run_behind_a_step_cache_ends_where_the_closed_form_says(comfy, kind, by_region):
    trial = ExactTrial(stripes(("flat", "texture"), regions=2, size=8), seed=3)
    model = CachedModel(trial.canvas.model(trial.mean), kind, THRESHOLD, by_region)
    found = trial.sample(SIGMAS, Recorded(FixedSchedule()), None, "euler", model)
    start = trial.canvas.start(trial.mean, SIGMAS[0], trial.seed)
    if not by_region:  # the cache of a canvas is asked once for all regions
        assert len(model.holders) == 1
    tiles = [trial.canvas.tiles(part) for part in (trial.mean, start - trial.mean, found - trial.mean)]
    for i, own in enumerate(trial.canvas.posteriors):
        calls = model.calls[i]
        assert len(calls) == len(SIGMAS) - 1 and 0 < sum(evaluated for _, evaluated in calls) < len(calls)
        mean, begun, ended = (tile[i] @ own.gaussian.modes.T for tile in tiles)
        expected = walked(begun, mean, own.gaussian.variance, calls, kind)
        torch.testing.assert_close(ended, expected, rtol=1e-9, atol=1e-9)
