from pathlib import Path

import pytest
import torch
from adaptivesr.sampling import residual_shift as rs
from adaptivesr.sampling.noise import gaussian_field
from adaptivesr.sampling.samplers import (
    invert_deterministic,
    predict_x0,
    sample_ancestral,
    sample_deterministic,
    sample_one_step,
)
from adaptivesr.sampling.schedules import residual_shift_schedule, respace
from adaptivesr.tools.golden import tad_sr
from adaptivesr.tools.golden.analytic import analytic_denoiser
from adaptivesr.tools.golden.vectors import Golden

GOLDEN = Path(__file__).parents[1] / "golden" / "tad_sr"
MEAN, DEVIATION = 0.3, 0.5


def normal(seed, shape=(2, 3, 4, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["schedules", "diffusion_ops", "chains"])
def test_formulas_match_the_golden_vectors(name):
    results = Golden.run(GOLDEN / f"{name}.safetensors", tad_sr.CHECKS[name])
    assert len(results) > 5
    assert [result.line() for result in results if not result.ok] == []


@pytest.fixture
def chains():
    golden = Golden.load(GOLDEN / "chains.safetensors")
    schedule, _ = tad_sr.diffusion_of(golden)
    return golden, schedule, analytic_denoiser(golden.config["fake_predictor"])


def test_deterministic_chain_is_euler_in_variance_exploding_coordinates(chains):
    """With u = (x - eta y) / (1 - eta), the chain of SinSR is Euler's method on du/dsigma = (u - D(u)) / sigma."""
    golden, schedule, denoise = chains
    y = golden["out.z_y"]
    t = rs.last_index(y, schedule)
    u = rs.to_variance_exploding(golden["out.z_T"], y, t, schedule)
    for i, expected in enumerate(golden["out.ddim_states"]):
        index = schedule.num_steps - 1 - i
        sigma, next_sigma = schedule.sigmas[index], schedule.sigmas[index - 1] if index else 0.0
        denoised = predict_x0(denoise, rs.from_variance_exploding(u, y, t, schedule), t, schedule)
        u = u + (u - denoised) * float((next_sigma - sigma) / sigma)
        x = rs.from_variance_exploding(u, y, t - 1, schedule) if index else u
        assert (x - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max())
        t = t - 1


@pytest.mark.parametrize("schedule", [residual_shift_schedule(), residual_shift_schedule(4, 0.2, 1.3)])
def test_variance_exploding_state_is_x0_plus_sigma_noise(schedule):
    x0, y, noise = normal(0), normal(1), normal(2)
    for index in range(schedule.num_steps):
        t = torch.full((2,), index)
        u = rs.to_variance_exploding(rs.q_sample(x0, y, t, noise, schedule), y, t, schedule)
        torch.testing.assert_close(u, x0 + float(schedule.sigmas[index]) * noise, rtol=1e-4, atol=1e-4)


def test_noise_of_the_deterministic_chain_stays_when_the_prediction_does():
    schedule, x0, y, noise = residual_shift_schedule(), normal(0), normal(1), normal(2)
    x = rs.q_sample(x0, y, torch.tensor([9, 14]), noise, schedule)
    t = torch.tensor([9, 14])
    expected = rs.q_sample(x0, y, t - 1, noise, schedule)
    torch.testing.assert_close(rs.deterministic_step(x0, x, y, t, schedule), expected)


def gaussian_oracle(y, schedule):
    """E[x0 | x_t] for data N(MEAN, DEVIATION^2), by Bayes in u coordinates."""

    def denoise(scaled, network_time):
        t = torch.tensor([schedule.timestep_map.index(int(time)) for time in network_time])
        x = scaled * rs.at(schedule.input_std, t, scaled)
        u, sigma = rs.to_variance_exploding(x, y, t, schedule), rs.at(schedule.sigmas, t, scaled)
        return (DEVIATION**2 * u + sigma**2 * MEAN) / (DEVIATION**2 + sigma**2)

    return denoise


def test_deterministic_chain_converges_to_the_exact_solution_of_gaussian_data():
    y, noise = normal(1), normal(2)
    errors = []
    for steps in (15, 30, 60):
        schedule = residual_shift_schedule(steps)
        sigma = float(schedule.sigmas[-1])
        start = rs.to_variance_exploding(rs.prior_sample(y, noise, schedule), y, rs.last_index(y, schedule), schedule)
        exact = MEAN + (start - MEAN) * DEVIATION / (DEVIATION**2 + sigma**2) ** 0.5
        result = sample_deterministic(gaussian_oracle(y, schedule), y, schedule, noise)
        errors.append(float((result - exact).abs().max()))
    assert errors[0] > 1.6 * errors[1] > 2.5 * errors[2]


def test_ancestral_chain_draws_gaussian_data():
    schedule = residual_shift_schedule(60)
    y = torch.zeros(1, 1, 128, 128)
    x = sample_ancestral(
        gaussian_oracle(y, schedule),
        y,
        schedule,
        gaussian_field(y.shape, seed=1),
        lambda i: gaussian_field(y.shape, seed=1, step=i + 1),
    )
    assert abs(x.mean() - MEAN) < 0.02
    # The chain's posterior takes x0 as known, which loses some variance at a finite number of steps.
    assert 0.42 < x.std() < 0.51


@pytest.mark.parametrize("schedule", [residual_shift_schedule(), respace(residual_shift_schedule(), 4)])
def test_perfect_prediction_ends_every_chain_at_x0(schedule):
    x0, y, noise = normal(0), normal(1), normal(2)

    def perfect(scaled, t):
        return x0

    assert torch.equal(sample_one_step(perfect, y, schedule, noise), x0)
    torch.testing.assert_close(sample_deterministic(perfect, y, schedule, noise), x0)
    torch.testing.assert_close(sample_ancestral(perfect, y, schedule, noise, lambda i: normal(i)), x0)


def test_inverse_chain_undoes_the_deterministic_steps():
    schedule, x0, y = residual_shift_schedule(), normal(0), normal(1)

    def constant(scaled, t):
        return 0.5 * y

    noisy = invert_deterministic(constant, y, schedule, x0)
    for index in range(schedule.num_steps - 1, 0, -1):
        noisy = rs.deterministic_step(0.5 * y, noisy, y, torch.full((2,), index), schedule)
    torch.testing.assert_close(noisy, x0, rtol=1e-4, atol=1e-4)


def test_network_sees_its_own_times_last_first():
    seen = []

    def denoise(scaled, t):
        seen.append(t.tolist())
        return scaled

    y, schedule = normal(1), respace(residual_shift_schedule(), 5)
    sample_deterministic(denoise, y, schedule, normal(2))
    sample_one_step(denoise, y, residual_shift_schedule(), normal(2))
    assert seen == [[12, 12], [9, 9], [6, 6], [3, 3], [0, 0], [14, 14]]


def test_last_ancestral_step_draws_no_noise():
    asked = []

    def step_noise(i):
        asked.append(i)
        return normal(i)

    sample_ancestral(lambda x, t: x, normal(1), residual_shift_schedule(4, 0.2), normal(2), step_noise)
    assert asked == [0, 1, 2]


def test_callback_is_told_every_state_and_the_result():
    reports = []
    result = sample_deterministic(
        lambda x, t: 0.5 * x, normal(1), residual_shift_schedule(4, 0.2), normal(2), reports.append
    )
    assert [report["i"] for report in reports] == [0, 1, 2, 3]
    assert torch.equal(reports[-1]["x"], result)
    assert all(report["denoised"].shape == result.shape for report in reports)


def test_batch_equals_single_calls():
    schedule, y, noise = residual_shift_schedule(), normal(1), normal(2)

    def denoise(scaled, t):
        return torch.tanh(scaled) + 0.02 * t[:, None, None, None]

    together = sample_deterministic(denoise, y, schedule, noise)
    for i in range(2):
        assert torch.equal(sample_deterministic(denoise, y[i : i + 1], schedule, noise[i : i + 1]), together[i : i + 1])


def test_samplers_leave_gradients_to_the_caller():
    y = normal(1).requires_grad_()
    sample_deterministic(lambda x, t: torch.tanh(x), y, residual_shift_schedule(4, 0.2), normal(2)).sum().backward()
    assert y.grad is not None and y.grad.abs().sum() > 0
