import numpy as np
import pytest
from adaptivesr.sampling.schedules import stable_diffusion_alphas
from adaptivesr.tools.golden import adadiffsr_codebook as cb

ALPHAS = stable_diffusion_alphas()


def test_a_jump_is_its_steps_one_after_another():
    """Marginalising over every skipped step, for a chain that starts at z = 1 and predicts x0 = 0."""
    a = ALPHAS[[40, 39, 38, 37]]
    factor, variance = 1.0, 0.0
    for now, after in zip(a, a[1:]):  # noqa: RUF007
        step = cb.ancestral_jump(now, after)
        factor, variance = factor * step.z_factor, variance * step.z_factor**2 + step.variance
    jump = cb.ancestral_jump(a[0], a[-1])
    assert float(jump.z_factor) == pytest.approx(float(factor), rel=1e-10)
    assert float(jump.variance) == pytest.approx(float(variance), rel=1e-10)


def test_ddim_with_full_noise_is_the_ancestral_jump():
    a, b = ALPHAS[[999, 500, 60]], ALPHAS[[700, 480, 0]]
    implicit, ancestral = cb.implicit_jump(a, b, 1.0), cb.ancestral_jump(a, b)
    # z = sqrt(a) x0 + sqrt(1 - a) eps in the ancestral mean
    np.testing.assert_allclose(implicit.eps_factor, ancestral.z_factor * np.sqrt(1 - a), rtol=1e-9)
    np.testing.assert_allclose(implicit.x0_factor, ancestral.x0_factor + ancestral.z_factor * np.sqrt(a), rtol=1e-9)
    np.testing.assert_allclose(implicit.noise_factor**2, ancestral.variance, rtol=1e-9)


def test_both_forms_of_the_mean_agree():
    jump = cb.ancestral_jump(ALPHAS[700], ALPHAS[640])
    x0, eps = 0.4, -1.3
    z = np.sqrt(ALPHAS[700]) * x0 + np.sqrt(1 - ALPHAS[700]) * eps
    assert jump.x0_factor * x0 + jump.z_factor * z == pytest.approx(jump.z_factor_eps * z + jump.eps_factor * eps)


def test_finishing_gives_the_prediction_without_noise():
    jump = cb.ancestral_jump(ALPHAS, np.ones_like(ALPHAS))
    assert np.allclose(jump.x0_factor, 1) and not jump.z_factor.any() and not jump.variance.any()


def test_the_grid_and_the_four_intervals_of_the_paper():
    grid = cb.grid_timesteps()
    assert (len(grid), grid[0], grid[1], grid[-1]) == (200, 0, 5, 999)
    assert cb.grid_jumps() == (1, 2, 3, 4)
    assert cb.grid_jumps((1, 5, 40), 50) == (1, 1, 2)
    with pytest.raises(ValueError, match="2 entries"):
        cb.grid_timesteps(1)


def test_the_codebook_ends_where_jumps_would_overshoot():
    table = cb.ancestral_codebook(ALPHAS, cb.grid_timesteps(), (1, 2, 3))
    assert table.variance.shape == (200, 3)
    assert np.isnan(table.x0_factor[0]).tolist() == [False, True, True]
    assert np.isnan(table.x0_factor[1]).tolist() == [False, False, True]
    assert not np.isnan(table.x0_factor[2:]).any()
    assert table.x0_factor[0, 0] == table.x0_factor[1, 1] == 1.0
