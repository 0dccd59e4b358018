import numpy as np
import pytest
import torch
from adaptivesr.sampling.schedules import stable_diffusion_alphas
from adaptivesr.sampling.spaced import SpacedSchedule, spaced_timesteps


def test_published_lists():
    assert spaced_timesteps(4) == (0, 333, 666, 999)
    assert spaced_timesteps(20) == (
        0, 53, 105, 158, 210, 263, 315, 368, 421, 473, 526, 578, 631, 684, 736, 789, 841, 894, 946, 999,
    )  # fmt: skip
    gaps = np.diff(spaced_timesteps(200))
    assert set(gaps) == {5, 6} and [int(i) for i in np.flatnonzero(gaps == 6)] == [24, 74, 124, 174]


@pytest.mark.parametrize("steps", [2, 3, 7, 50, 999, 1000])
def test_both_ends_are_kept_and_nothing_twice(steps):
    kept = spaced_timesteps(steps)
    assert kept[0] == 0 and kept[-1] == 999 and len(set(kept)) == steps


def test_one_step_keeps_the_cleanest_and_others_are_refused():
    assert spaced_timesteps(1) == (0,)
    with pytest.raises(ValueError, match="1 to 1000 steps, got 1001"):
        spaced_timesteps(1001)


def test_all_steps_are_the_chain_itself():
    full = SpacedSchedule.of(1000)
    assert np.array_equal(full.alphas_cumprod, stable_diffusion_alphas())
    assert np.allclose(np.cumprod(1 - full.betas), full.alphas_cumprod, rtol=1e-12)


def test_a_step_keeps_the_marginal():
    """z_k = sqrt(abar_k) x0 + sqrt(1 - abar_k) n stepped with the true x0 has the variance 1 - abar_{k-1} around sqrt(abar_{k-1}) x0."""
    schedule, index = SpacedSchedule.of(20), 11
    a, previous = schedule.alphas_cumprod[index], schedule.alphas_cumprod[index - 1]
    x0 = torch.tensor(0.7, dtype=torch.float64)
    mean = schedule.step(index, a**0.5 * x0, x0, torch.zeros_like(x0))
    assert float(mean) == pytest.approx(previous**0.5 * 0.7, rel=1e-12)
    variance = schedule.posterior_mean_coef_xt[index] ** 2 * (1 - a) + schedule.posterior_variance[index]
    assert variance == pytest.approx(1 - previous, rel=1e-12)


def test_the_last_step_gives_the_prediction():
    x0, x = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    assert torch.allclose(SpacedSchedule.of(4).step(0, x, x0, torch.ones_like(x)), x0, atol=1e-6)
