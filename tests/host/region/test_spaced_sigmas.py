"""Spaced Sigmas beside the host's own tables."""

import pytest
import torch


@pytest.fixture
def spaced(comfy):
    return comfy.node("AdaptiveSRSpacedSigmas").execute


def test_levels_are_the_models_own_at_the_kept_timesteps(spaced, patcher):
    sampling = patcher("eps").get_model_object("model_sampling")
    (levels,) = spaced(patcher("eps"), 4, 1.0).result
    assert torch.equal(levels, torch.cat([sampling.sigmas[[999, 666, 333, 0]], torch.zeros(1)]))
    assert torch.equal(sampling.timestep(levels[:-1]), torch.tensor([999, 666, 333, 0]))


def test_denoise_is_read_as_by_the_hosts_basic_scheduler(spaced, patcher):
    (half,) = spaced(patcher("v"), 10, 0.5).result
    (whole,) = spaced(patcher("v"), 20, 1.0).result
    assert torch.equal(half, whole[-11:])
    assert len(spaced(patcher("v"), 10, 0.0).result[0]) == 0


@pytest.mark.parametrize(
    ("kind", "steps", "denoise", "words"), [("flow", 4, 1.0, "without a table"), ("eps", 600, 0.5, "a chain of 1200")]
)
def test_what_has_no_such_chain_is_refused(spaced, patcher, kind, steps, denoise, words):
    with pytest.raises(ValueError, match=words):
        spaced(patcher(kind), steps, denoise)
