"""What the losses of sharpness take for the same picture, and what not."""

import math

import torch
from adaptivesr.training.picture_losses import amplitude_loss, energy_loss


def wave(period: float, height: float = 0.3, phase: float = 0.0) -> torch.Tensor:
    """Grey diagonal waves (1, 3, 64, 64)."""
    place = torch.arange(64.0)
    angle = 2 * math.pi * (place[:, None] + place[None]) / period + phase
    return (height * angle.sin()).expand(1, 3, 64, 64)


def test_the_same_picture_costs_nothing_and_a_flat_one_something():
    assert float(amplitude_loss(wave(6), wave(6))) == 0
    assert float(amplitude_loss(torch.zeros(1, 3, 64, 64), wave(6))) > 0.3


def test_phases_are_free():
    moved = float(amplitude_loss(wave(6, phase=1.5), wave(6)))
    assert moved < 0.1 * float(amplitude_loss(torch.zeros(1, 3, 64, 64), wave(6)))


def test_a_lattice_of_the_same_gradients_is_not_the_texture():
    target = wave(8)
    gradient = float(target.diff(dim=-1).square().mean())
    lattice = wave(3, height=0.3 * (gradient / float(wave(3).diff(dim=-1).square().mean())) ** 0.5)
    assert float(energy_loss(lattice, target)) < 0.1, "what it was made for"
    nothing = float(amplitude_loss(torch.zeros(1, 3, 64, 64), target))
    assert float(amplitude_loss(lattice, target)) > nothing, "worse than no texture at all"


def test_gradients_are_finite_where_there_is_nothing():
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    amplitude_loss(flat, wave(6)[..., :32, :32]).backward()
    assert bool(flat.grad.isfinite().all())
