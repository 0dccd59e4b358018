import pytest
import torch
from adaptivesr.sampling import ve_coordinates as ve
from adaptivesr.sampling.schedules import residual_shift_schedule


@pytest.mark.parametrize("kappa", [0.5, 2.0])
def test_sigma_and_sqrt_eta_are_inverse(kappa):
    s = torch.tensor([0.0, 1e-3, 0.02, 0.5, 0.9, 0.99])
    torch.testing.assert_close(ve.sqrt_eta_of_sigma(ve.sigma_of_sqrt_eta(s, kappa), kappa), s, atol=1e-6, rtol=1e-6)


def test_the_forward_process_is_x0_plus_sigma_noise():
    schedule = residual_shift_schedule()
    x0, y, noise = torch.randn(3, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for eta, sqrt_eta, sigma in zip(schedule.etas, schedule.sqrt_etas, schedule.sigmas):
        x = x0 + eta * (y - x0) + schedule.kappa * sqrt_eta * noise
        u = (x.double() - eta * y) / (1 - eta)
        torch.testing.assert_close(u.float(), x0 + sigma * noise, atol=1e-4, rtol=1e-5)


def test_index_and_entry_are_inverse_and_held_at_the_ends():
    table = torch.tensor([0.1, 0.2, 0.5, 0.9])
    index = torch.tensor([0.0, 0.25, 1.5, 3.0])
    torch.testing.assert_close(ve.fractional_index(ve.entry_at(index, table), table), index)
    assert ve.fractional_index(torch.tensor([0.0, 2.0]), table).tolist() == [0.0, 3.0]
