import numpy as np
import pytest
from adaptivesr.sampling.schedules import (
    ResidualShiftSchedule,
    residual_shift_schedule,
    respace,
    shorten,
    sigma_of,
    stable_diffusion_alphas,
)

FIFTEEN = (
    *(0.02, 0.11716508, 0.17630456, 0.23362892, 0.29157413, 0.35100928, 0.41235614, 0.47585773),
    *(0.54167168, 0.60990993, 0.68065802, 0.75398526, 0.82995066, 0.90860639, 0.99),
)
FOUR = (0.1, 0.52009637, 0.76138199, 0.99)
FOUR_CLIPPED = (0.031622777, 0.37643966, 0.66732339, 0.99)


def schedules():
    full = residual_shift_schedule()
    return [full, residual_shift_schedule(4, 0.2), residual_shift_schedule(7, 0.1, 1.5, 0.5, 0.95), respace(full, 5)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (residual_shift_schedule(), FIFTEEN),
        (residual_shift_schedule(clip_start=True), FIFTEEN),
        (residual_shift_schedule(4, 0.2), FOUR),
        (residual_shift_schedule(4, 0.2, clip_start=True), FOUR_CLIPPED),
    ],
)
def test_published_noise_levels(schedule, expected):
    assert schedule.sqrt_etas == pytest.approx(expected, abs=5e-9)


@pytest.mark.parametrize("schedule", [residual_shift_schedule(), residual_shift_schedule(4, 0.2, clip_start=True)])
def test_last_step_is_the_same_in_every_preset(schedule):
    assert schedule.prior_std[-1] == pytest.approx(1.98)
    assert schedule.input_std[-1] == pytest.approx(2.2181975)


@pytest.mark.parametrize("schedule", schedules())
def test_deterministic_coefficients_sum_to_one(schedule):
    np.testing.assert_allclose(schedule.ddim_k + schedule.ddim_m + schedule.ddim_j, 1.0, rtol=0, atol=1e-15)
    assert (schedule.ddim_k[0], schedule.ddim_m[0], schedule.ddim_j[0]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("schedule", schedules())
def test_posterior_mean_coefficients_sum_to_one(schedule):
    np.testing.assert_allclose(schedule.posterior_mean_coef1 + schedule.posterior_mean_coef2, 1.0, atol=1e-15)
    assert schedule.posterior_variance[0] == 0.0


@pytest.mark.parametrize("schedule", schedules())
def test_loss_weight_is_that_of_the_paper(schedule):
    expected = schedule.alpha / (2 * schedule.kappa**2 * schedule.etas * schedule.etas_prev.clip(1e-30))
    np.testing.assert_allclose(schedule.weight_loss_mse[1:], expected[1:], rtol=1e-12)


@pytest.mark.parametrize("schedule", schedules())
def test_variance_exploding_sigmas_rise(schedule):
    np.testing.assert_allclose(
        schedule.sigmas, schedule.kappa * np.array(schedule.sqrt_etas) / (1 - schedule.etas), rtol=1e-14
    )
    assert (np.diff(schedule.sigmas) > 0).all()


@pytest.mark.parametrize(
    ("steps", "kept"), [(5, (0, 3, 6, 9, 12)), (4, (0, 3, 7, 11)), (15, range(15)), (40, range(15))]
)
def test_respacing_keeps_original_network_times(steps, kept):
    full = residual_shift_schedule()
    short = respace(full, steps)
    assert short.timestep_map == tuple(kept)
    assert short.sqrt_etas == tuple(full.sqrt_etas[i] for i in kept)


def test_one_step_is_not_a_respacing():
    with pytest.raises(ValueError, match="sample_one_step"):
        respace(residual_shift_schedule(), 1)
    with pytest.raises(ValueError, match="last entry"):
        residual_shift_schedule(1)


@pytest.mark.parametrize("levels", [(0.5, 0.4), (0.0, 0.5), (0.5, 1.0)])
def test_levels_rise_inside_the_unit_interval(levels):
    with pytest.raises(ValueError, match="rise"):
        ResidualShiftSchedule(levels, 2.0, (0, 1))


@pytest.mark.parametrize("steps", [2, 4, 15])
def test_a_shortened_chain_keeps_both_ends(steps):
    whole = residual_shift_schedule()
    short = shorten(whole, steps)
    assert short.num_steps == steps
    assert (short.timestep_map[0], short.timestep_map[-1]) == (0, 14)
    assert short.sqrt_etas == tuple(whole.sqrt_etas[i] for i in short.timestep_map)


def test_a_chain_cannot_be_shortened_to_one_step_or_lengthened():
    for steps in (1, 16):
        with pytest.raises(ValueError, match=f"got {steps}"):
            shorten(residual_shift_schedule(), steps)


def test_the_latent_diffusion_schedule_is_stable_diffusions():
    sigmas = sigma_of(stable_diffusion_alphas())
    assert sigmas[[0, 333, 666, 999]] == pytest.approx([0.029167, 0.932358, 2.918307, 14.614641], abs=1e-6)
